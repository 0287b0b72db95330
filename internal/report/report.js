{
  const f = JSON.parse(document.getElementById("figures").textContent);
  const $ = id => document.getElementById(id);
  const says = (id, text) => { $(id + "-says").textContent = text; $(id).setAttribute("role", "img"); $(id).setAttribute("aria-label", text); };
  const node = (tag, props, ...children) => { const e = Object.assign(document.createElement(tag), props); e.append(...children); return e; };
  const share = n => (100 * n / f.transfers).toFixed(n === f.transfers ? 0 : 1) + " %";
  const {count, bytes, rate, seconds, moment} = ferry;

  const proofs = {"full-object": "checksum", etag: "ETag", length: "length"};
  for (const [name, value, note, tone] of [
    ["Copied", count(f.copied), "of " + count(f.transfers) + " receipts"],
    ["Carried", bytes(f.bytes), "peak " + rate(f.peak)],
    ["Lag, median", f.copied ? seconds(f.lag.p50) : "–", f.copied ? "99 % within " + seconds(f.lag.p99) : ""],
    ["Longest lag", f.copied ? seconds(f.lag.max) : "–", ""],
    ["Given up", count(f.trouble), f.trouble ? "refused or failed, " + share(f.trouble) : "refused or failed: none", f.trouble ? "bad" : "good"],
    ["Proved by", f.proofs.length ? proofs[f.proofs[0].name] : "–", f.proofs.map(p => proofs[p.name] + " " + count(p.count)).join(", ")],
  ]) $("tiles").append(node("div", {className: "tile"}, node("dt", {}, name), node("dd", {className: tone || ""}, value, node("small", {}, note))));

  const every = seconds(f.interval);
  says("throughput", `${bytes(f.bytes)} in ${seconds(Math.max(1, f.to - f.from))}; each point is the mean of ${every}.`);
  ferry.chart($("throughput"), {x: f.times, step: f.interval, format: rate, series: [{label: "Carried", color: "accent", values: f.bytesPerSecond, kind: "area", points: f.times.length < 3}]});

  says("lag", f.copied ? `Half within ${seconds(f.lag.p50)}, 90 % within ${seconds(f.lag.p90)}, 99 % within ${seconds(f.lag.p99)}. The scale is logarithmic.` : "Nothing was copied.");
  const above = v => v == null ? null : Math.max(v, 0.001);
  ferry.chart($("lag"), {x: f.times, step: f.interval, format: seconds, log: f.copied > 0, series: [
    {label: "99 %", color: "p99", values: f.p99.map(above), points: true},
    {label: "90 %", color: "p90", values: f.p90.map(above), points: true},
    {label: "50 %", color: "p50", values: f.p50.map(above), points: true},
  ]});

  says("outcomes", f.outcomes.map(o => `${count(o.count)} ${o.name}`).join(", ") + `; each bar is ${every}.`);
  ferry.chart($("outcomes"), {x: f.times, step: f.interval, format: count, stacked: true,
    series: f.outcomes.slice().reverse().map(o => ({label: o.name, color: o.name, values: o.each, kind: "bar"}))});

  const unit = v => { let u = 0; for (; v >= 1024; u++) v /= 1024; return v + " " + ["B", "KiB", "MiB", "GiB"][u]; };
  const label = (s, i) => s.under === 0 ? "more" : s.under === 1 ? "0" : "<" + unit(s.under).replace("iB", "").replace(" ", "");
  const most = f.sizes.indexOf(f.sizes.reduce((a, b) => b.bytes > a.bytes ? b : a));
  const from = most && unit(f.sizes[most - 1].under), under = f.sizes[most].under;
  says("sizes", f.bytes ? `${count(f.sizes[most].objects)} objects of ${under ? from + " to " + unit(under) : from + " and more"} are ${(100 * f.sizes[most].bytes / f.bytes).toFixed(0)} % of the bytes.` : "No bytes were carried.");
  ferry.chart($("sizes"), {x: f.sizes.map((_, i) => i), labels: f.sizes.map(label), format: count,
    series: [{label: "Objects", color: "accent", values: f.sizes.map(s => s.objects), kind: "bar"}]});

  const table = (id, heads, rows) => {
    $(id).append(node("thead", {}, node("tr", {}, ...heads.map(([text, cls]) => node("th", {className: cls, scope: "col"}, text)))),
      node("tbody", {}, ...rows.map(cells => node("tr", {}, ...cells.map((c, i) => node("td", {className: heads[i][1]}, c))))));
  };
  $("faults-card").hidden = !f.faults.length;
  table("faults", [["Class", ""], ["Times", "n"], ["Latest, UTC", "hide-narrow"], ["Object and reason", "key"]],
    f.faults.map(x => [(x.class || "–") + ", " + x.outcome, count(x.count), moment(x.at), x.key + ": " + x.reason]));
  table("slowest", [["Object", "key"], ["Size", "n"], ["Lag", "n"], ["Last invocation", "n hide-narrow"], ["Tries", "n hide-narrow"], ["Arrived, UTC", "n hide-narrow"]],
    f.slowest.map(x => [x.key, bytes(x.bytes), seconds(x.lag), seconds(x.took), count(x.attempts), moment(x.at)]));
  document.documentElement.dataset.ready = "yes";
}
