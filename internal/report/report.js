{
  const {receipts, metrics} = JSON.parse(document.getElementById("figures").textContent);
  const $ = id => document.getElementById(id);
  const says = (id, text) => { $(id + "-says").textContent = text; $(id).setAttribute("role", "img"); $(id).setAttribute("aria-label", text); };
  const node = (tag, props, ...children) => { const e = Object.assign(document.createElement(tag), props); e.append(...children); return e; };
  const {count, bytes, rate, seconds, moment} = ferry;
  const tile = (name, value, note, tone) => $("tiles").append(node("div", {className: "tile"}, node("dt", {}, name), node("dd", {className: tone || ""}, value, node("small", {}, note || ""))));

  // What receipts and metrics both tell, drawn the same way.
  const axis = f => ({x: f.times, step: f.interval});
  const throughput = (f, id) => {
    says(id, `${bytes(f.bytes)} in ${seconds(Math.max(1, f.to - f.from))}; each point is the mean of ${seconds(f.interval)}.`);
    ferry.chart($(id), {...axis(f), format: rate, series: [{label: "Carried", color: "accent", values: f.bytesPerSecond, kind: "area", points: f.times.length < 3}]});
  };
  const lag = (f, id, text) => {
    says(id, text);
    const above = v => v == null ? null : Math.max(v, 0.001);
    ferry.chart($(id), {...axis(f), format: seconds, log: f.p50.some(v => v != null), series: [
      {label: "99 %", color: "p99", values: f.p99.map(above), points: true},
      {label: "90 %", color: "p90", values: f.p90.map(above), points: true},
      {label: "50 %", color: "p50", values: f.p50.map(above), points: true},
    ]});
  };
  const outcomes = (f, id) => {
    says(id, f.outcomes.length ? f.outcomes.map(o => `${count(o.count)} ${o.name}`).join(", ") + `; each bar is ${seconds(f.interval)}.` : "None.");
    ferry.chart($(id), {...axis(f), format: count, stacked: true,
      series: f.outcomes.slice().reverse().map(o => ({label: o.name, color: o.name, values: o.each, kind: "bar"}))});
  };

  const table = (id, heads, rows) => {
    $(id).append(node("thead", {}, node("tr", {}, ...heads.map(([text, cls]) => node("th", {className: cls, scope: "col"}, text)))),
      node("tbody", {}, ...rows.map(cells => node("tr", {}, ...cells.map((c, i) => node("td", {className: heads[i][1]}, c))))));
  };

  function drawReceipts(f) {
    const share = n => (100 * n / f.transfers).toFixed(n === f.transfers ? 0 : 1) + " %";
    const proofs = {"full-object": "checksum", etag: "ETag", length: "length"};
    tile("Copied", count(f.copied), "of " + count(f.transfers) + " receipts");
    tile("Carried", bytes(f.bytes), "peak " + rate(f.peak));
    tile("Lag, median", f.copied ? seconds(f.lag.p50) : "–", f.copied ? "99 % within " + seconds(f.lag.p99) : "");
    tile("Longest lag", f.copied ? seconds(f.lag.max) : "–");
    tile("Given up", count(f.trouble), f.trouble ? "refused or failed, " + share(f.trouble) : "refused or failed: none", f.trouble ? "bad" : "good");
    tile("Proved by", f.proofs.length ? proofs[f.proofs[0].name] : "–", f.proofs.map(p => proofs[p.name] + " " + count(p.count)).join(", "));

    throughput(f, "throughput");
    lag(f, "lag", f.copied ? `Half within ${seconds(f.lag.p50)}, 90 % within ${seconds(f.lag.p90)}, 99 % within ${seconds(f.lag.p99)}. The scale is logarithmic.` : "Nothing was copied.");
    outcomes(f, "outcomes");

    const unit = v => { let u = 0; for (; v >= 1024; u++) v /= 1024; return v + " " + ["B", "KiB", "MiB", "GiB"][u]; };
    const label = s => s.under === 0 ? "more" : s.under === 1 ? "0" : "<" + unit(s.under).replace("iB", "").replace(" ", "");
    const most = f.sizes.indexOf(f.sizes.reduce((a, b) => b.bytes > a.bytes ? b : a));
    const from = most && unit(f.sizes[most - 1].under), under = f.sizes[most].under;
    says("sizes", f.bytes ? `${count(f.sizes[most].objects)} objects of ${under ? from + " to " + unit(under) : from + " and more"} are ${(100 * f.sizes[most].bytes / f.bytes).toFixed(0)} % of the bytes.` : "No bytes were carried.");
    ferry.chart($("sizes"), {x: f.sizes.map((_, i) => i), labels: f.sizes.map(label), format: count,
      series: [{label: "Objects", color: "accent", values: f.sizes.map(s => s.objects), kind: "bar"}]});

    $("faults-card").hidden = !f.faults.length;
    table("faults", [["Class", ""], ["Times", "n"], ["Latest, UTC", "hide-narrow"], ["Object and reason", "key"]],
      f.faults.map(x => [(x.class || "–") + ", " + x.outcome, count(x.count), moment(x.at), x.key + ": " + x.reason]));
    table("slowest", [["Object", "key"], ["Size", "n"], ["Lag", "n"], ["Last invocation", "n hide-narrow"], ["Tries", "n hide-narrow"], ["Arrived, UTC", "n hide-narrow"]],
      f.slowest.map(x => [x.key, bytes(x.bytes), seconds(x.lag), seconds(x.took), count(x.attempts), moment(x.at)]));
  }

  const most = values => values.reduce((a, b) => b != null && b > a ? b : a, 0);
  const known = values => values.some(v => v != null);
  const latest = values => values.findLast(v => v != null);
  function drawMetrics(f) {
    if (!receipts) {
      tile("Copied", count(f.copied), "of " + count(f.receipts) + " receipts");
      tile("Carried", bytes(f.bytes), "peak " + rate(f.peak));
      tile("Most in the outbox", count(most(f.outbox)), known(f.oldest) ? "the oldest " + seconds(most(f.oldest)) : "");
      tile("Given up", count(f.givenUp), "refused or failed" + (f.givenUp ? "" : ": none"), f.givenUp ? "bad" : "good");
    }
    $("metrics-says").textContent = `What CloudWatch has counted from ${moment(f.from)} to ${moment(f.to)} UTC, by ${seconds(f.interval)}: ` +
      `${count(f.copied)} copied, ${bytes(f.bytes)}, ${count(f.givenUp)} given up.`;
    const dead = latest(f.deadLetters);
    says("m-backlog", `At most ${count(most(f.outbox))} events waited in the outbox and ${count(most(f.inbox))} transfers in the inbox` + (dead ? `; ${count(dead)} dead letters of the outbox at the end.` : "."));
    const line = (label, color, values) => ({label, color, values, points: true});
    ferry.chart($("m-backlog"), {...axis(f), format: count, series: [
      line("Outbox, waiting", "p50", f.outbox), line("Outbox, begun or put off", "p90", f.begun), line("Inbox", "p99", f.inbox), line("Outbox, dead letters", "failed", f.deadLetters),
    ]});
    says("m-oldest", known(f.oldest) ? `At most ${seconds(most(f.oldest))}.` : "No event waited.");
    ferry.chart($("m-oldest"), {...axis(f), format: seconds, series: [{...line("Oldest", "p50", f.oldest), kind: "area"}]});
    throughput(f, "m-throughput");
    lag(f, "m-lag", f.copied ? `Of each ${seconds(f.interval)}. The scale is logarithmic.` : "Nothing was copied.");
    outcomes(f, "m-outcomes");
  }

  if (receipts) drawReceipts(receipts);
  if (metrics) drawMetrics(metrics);
  document.documentElement.dataset.ready = "yes";
}
