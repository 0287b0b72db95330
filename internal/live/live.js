{
  const $ = id => document.getElementById(id);
  const {count, bytes, rate, seconds, clock} = ferry;
  const map = $("map"), still = matchMedia("(prefers-reduced-motion: reduce)"), narrow = matchMedia("(max-width: 720px)");

  // The wires between the nodes, drawn anew whenever the map changes its size.
  const wires = {
    event: ["source", "outbox"], take: ["outbox", "sender"], send: ["sender", "inbox"], read: ["inbox", "receiver"],
    store: ["receiver", "destination"], tell: ["receiver", "receipts"], fetch: ["receipts", "courier"], pull: ["source", "receiver"],
  };
  const shapes = {};
  function draw() {
    const at = map.getBoundingClientRect();
    const box = id => {
      const r = $(id).getBoundingClientRect();
      return {l: r.left - at.left, r: r.right - at.left, t: r.top - at.top, b: r.bottom - at.top, x: (r.left + r.right) / 2 - at.left, y: (r.top + r.bottom) / 2 - at.top};
    };
    const svg = $("wires");
    for (const [name, [from, to]] of Object.entries(wires)) {
      const a = box(from), b = box(to);
      let d;
      if (name === "pull") {
        d = narrow.matches ? `M${a.r - 12},${a.b} C${a.r + 40},${a.b + 120} ${b.l - 60},${b.y} ${b.l},${b.y}` : `M${a.x},${a.t} C${a.x},${a.t - 62} ${b.x},${b.t - 62} ${b.x},${b.t}`;
      } else if (a.b <= b.t || b.b <= a.t) {
        const down = a.b <= b.t, y1 = down ? a.b : a.t, y2 = down ? b.t : b.b;
        d = name === "tell" && !narrow.matches ? `M${a.x},${a.b} V${b.y} H${b.r}` : `M${a.x},${y1} L${b.x},${y2}`;
      } else {
        d = a.x < b.x ? `M${a.r},${a.y} H${b.l}` : `M${a.l},${a.y} H${b.r}`;
      }
      shapes[name] = d;
      let path = svg.querySelector("." + name);
      if (!path) {
        path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.classList.add(name);
        svg.append(path);
      }
      path.setAttribute("d", d);
    }
  }
  new ResizeObserver(draw).observe(map);

  // Dots that run along a wire, one for each message, up to a dozen a tick.
  function run(name, n, back) {
    if (still.matches || document.hidden || !shapes[name]) return;
    n = Math.min(n, 12);
    for (let i = 0; i < n; i++) {
      const dot = document.createElement("div");
      dot.className = back ? "dot-on back" : "dot-on";
      dot.style.offsetPath = `path("${shapes[name]}")`;
      dot.style.opacity = 0;
      map.append(dot);
      const motion = dot.animate([{offsetDistance: "0%", opacity: 1}, {offsetDistance: "100%", opacity: 1}], {duration: 700, delay: 480 * i / n, easing: "ease-in-out"});
      motion.onfinish = () => dot.remove();
    }
  }

  const total = outcomes => Object.values(outcomes || {}).reduce((a, b) => a + b, 0);
  const all = q => q.waiting + q.held;
  const says = q => q.held ? `${count(q.waiting)} waiting, ${count(q.held)} in hand` : "waiting";
  let last;
  function show(t) {
    const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
    const arrived = t.outcomes?.copied || 0, deleted = t.outcomes?.deleted || 0;
    set("n-source", count(t.events));
    set("n-outbox", count(all(t.queues.outbox)));
    set("s-outbox", says(t.queues.outbox));
    set("n-sender", count(t.sent));
    set("n-inbox", count(all(t.queues.inbox)));
    set("s-inbox", says(t.queues.inbox));
    set("n-receiver", count(t.functions.receiver.busy));
    set("s-receiver", `at work, of ${count(t.functions.receiver.alive)}`);
    set("n-destination", count(arrived));
    set("s-destination", "copied, " + bytes(t.bytes) + (deleted ? `; ${count(deleted)} deleted` : ""));
    set("n-receipts", count(all(t.queues.receipts)));
    set("n-courier", count(Math.max(0, total(t.outcomes) - all(t.queues.receipts))));
    for (const name of ["sender", "receiver", "courier"]) $(name).classList.toggle("busy", t.functions[name].busy > 0);
    for (const name of ["outbox", "inbox"]) $(name).classList.toggle("full", all(t.queues[name]) > 0);
    $("wall").classList.toggle("closed", t.faults.border);
    set("wall-says", t.faults.border ? "border closed" : "border open");
    set("wall-rate", t.border.connections ? `${count(t.border.connections)} GETs, ${rate(t.border.rate)}` : "");
    $("wires").querySelector(".pull")?.classList.toggle("flows", t.border.rate > 0);
    for (const b of document.querySelectorAll("[data-fault]")) b.setAttribute("aria-checked", t.faults[b.dataset.fault]);
    const dead = t.queues["outbox-dlq"].waiting + t.queues["inbox-dlq"].waiting;
    const names = Object.entries(t.outcomes || {}).map(([name, n]) => `${count(n)} ${name}`);
    if (names.length || dead) set("outcomes", names.join(", ") + (dead ? `; ${count(dead)} dead letters` : "") + ".");
    for (const r of t.receipts || []) tell(r);
    if (last) {
      run("event", t.events - last.events); run("take", t.sent - last.sent); run("send", t.sent - last.sent);
      const done = total(t.outcomes) - total(last.outcomes);
      run("read", done); run("store", arrived + deleted - (last.outcomes?.copied || 0) - (last.outcomes?.deleted || 0)); run("tell", done, true); run("fetch", done, true);
    }
    last = t;
  }

  function tell(r) {
    const row = $("latest").insertRow(0);
    const cell = (text, cls) => { const c = row.insertCell(); c.className = cls; c.textContent = text; return c; };
    const object = cell(r.key, "key");
    if (r.reason) object.append(Object.assign(document.createElement("div"), {className: "small muted", textContent: r.reason}));
    cell(r.op, "nowrap");
    const outcome = cell(r.outcome, "nowrap");
    const mark = document.createElement("span");
    mark.className = "dot";
    mark.style.setProperty("--c", `var(--${r.outcome})`);
    outcome.prepend(mark);
    cell(bytes(r.bytes), "n"); cell(seconds(Math.max(0, r.lag)), "n"); cell(r.proof || "–", "hide-narrow"); cell(clock(r.at / 1000), "n hide-narrow");
    while ($("latest").rows.length > 12) $("latest").deleteRow(-1);
  }

  // The last two minutes.
  const keep = 240, x = [], rates = [], queues = {outbox: [], inbox: [], receipts: []};
  const rateChart = ferry.chart($("rate"), {x, window: 120, height: 200, format: rate, series: [{label: "Pulled", color: "pull", values: rates, kind: "area"}]});
  const depthChart = ferry.chart($("depths"), {x, window: 120, height: 200, format: count, series: [
    {label: "Outbox", color: "p50", values: queues.outbox}, {label: "Inbox", color: "p99", values: queues.inbox}, {label: "Receipts", color: "p90", values: queues.receipts},
  ]});
  function remember(t) {
    x.push(t.at / 1000);
    rates.push(t.border.rate);
    for (const name in queues) queues[name].push(all(t.queues[name]));
    if (x.length > keep) for (const column of [x, rates, ...Object.values(queues)]) column.shift();
  }
  function plot() {
    rateChart.set(x, [rates]);
    depthChart.set(x, Object.values(queues));
  }

  const source = new EventSource("ticks");
  const link = (text, cls) => { $("link").textContent = text; $("link").className = cls; };
  source.onopen = () => link("Live.", "good");
  source.onerror = () => link("The laptop cloud has gone; waiting for it.", "bad");
  source.addEventListener("past", e => {
    for (const column of [x, rates, ...Object.values(queues)]) column.length = 0;
    const past = JSON.parse(e.data) || [];
    $("latest").replaceChildren();
    past.forEach(t => { remember(t); (t.receipts || []).forEach(tell); });
    last = undefined;
    if (past.length) { show({...past.at(-1), receipts: []}); plot(); }
  });
  source.addEventListener("tick", e => {
    const t = JSON.parse(e.data);
    remember(t);
    show(t);
    plot();
    document.documentElement.dataset.ready = "yes";
  });

  // A disabled button would lose the focus, so it only says that it is busy.
  async function post(path, body, button) {
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    try {
      const answer = await fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
      $("put-says").textContent = answer.ok ? "" : await answer.text();
    } catch (e) {
      $("put-says").textContent = String(e);
    } finally {
      button.ariaDisabled = null;
    }
  }
  document.addEventListener("click", e => {
    const b = e.target.closest("button");
    if (!b) return;
    if (b.dataset.count) post("objects", {count: +b.dataset.count, size: +b.dataset.size}, b);
    if (b.dataset.delete) post("deletions", {count: +b.dataset.delete}, b);
    if (b.dataset.once) post("faults/" + b.dataset.once, {on: true}, b);
    if (b.dataset.fault) post("faults/" + b.dataset.fault, {on: b.getAttribute("aria-checked") !== "true"}, b);
  });
}
