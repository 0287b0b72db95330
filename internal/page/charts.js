// Charts as the pages use them. ferry.chart(element, spec) draws one and returns
// an object whose set(x, columns) shows other data. A spec is
//   {x, step, window, labels, height, log, stacked, format, series: [{label, color, values, kind}]}
// x: Unix seconds, or indexes into labels; step: the seconds between two;
// window: how many seconds, up to the last, are shown (default: all); color: a variable of the style sheet;
// kind: "line" (default), "area" or "bar"; values: numbers, null where there is none.
const ferry = (() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const color = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const short = v => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2)).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");

  const count = v => v == null ? "–" : v.toLocaleString("en", {maximumFractionDigits: 1});
  const bytes = v => {
    if (v == null) return "–";
    let unit = 0;
    for (; v >= 999.5 && unit < 5; unit++) v /= 1000;
    return short(v) + " " + ["B", "kB", "MB", "GB", "TB", "PB"][unit];
  };
  const rate = v => v == null ? "–" : bytes(v) + "/s";
  const seconds = v => {
    if (v == null) return "–";
    if (v < 1) return short(v * 1000) + " ms";
    if (v < 60) return short(v) + " s";
    if (v < 3600) return short(v / 60) + " min";
    return v < 86400 ? short(v / 3600) + " h" : short(v / 86400) + " d";
  };

  const utc = (ts, from, to) => new Date(ts * 1000).toISOString().slice(from, to);
  const clock = ts => utc(ts, 11, 19);
  const moment = ts => utc(ts, 0, 10) + " " + clock(ts);
  const ticks = (u, splits, axis, space, step) =>
    splits.map((ts, i) => {
      if (step >= 86400) return utc(ts, 5, 10);
      const day = i > 0 && utc(ts, 0, 10) !== utc(splits[i - 1], 0, 10) ? "\n" + utc(ts, 5, 10) : "";
      return (step >= 60 ? utc(ts, 11, 16) : clock(ts)) + day;
    });

  // What a logarithmic scale of seconds is marked with.
  const marks = [.001, .01, .1, 1, 10, 60, 600, 3600, 36000, 86400, 864000, 8640000];

  // Stacked series are drawn from the sum of all downwards, each over the last.
  const stack = columns => {
    const sums = columns.map(c => c.slice());
    for (let s = sums.length - 2; s >= 0; s--) sums[s] = sums[s].map((v, i) => (v || 0) + (sums[s + 1][i] || 0));
    return sums;
  };

  function options(box, spec, raw) {
    const grid = {stroke: color("line"), width: 1};
    const font = "12px system-ui, sans-serif";
    const bar = uPlot.paths.bars({size: [spec.labels ? 0.7 : 0.9, 60], align: spec.labels ? 0 : 1});
    const every = spec.labels && box.clientWidth < 420 ? 2 : 1;
    return {
      width: box.clientWidth, height: spec.height || 240, padding: [10, 18, 0, 0],
      tzDate: ts => uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"),
      cursor: {drag: {x: false, y: false}, points: {size: 7}},
      legend: {live: true},
      scales: {
        x: spec.labels ? {time: false, range: [-0.6, spec.labels.length - 0.4]} : {time: true, range: u => { const t = u.data[0]; return t.length ? spec.window ? [t[t.length - 1] - spec.window, t[t.length - 1]] : [t[0], Math.max(t[t.length - 1], t[0] + 10 * spec.step)] : [0, 1]; }},
        y: spec.log ? {distr: 3, log: 10} : {range: (u, min, max) => [0, max > 0 ? max * 1.08 : 1]},
      },
      axes: [
        {stroke: color("muted"), font, grid: {show: false}, ticks: grid, space: spec.labels ? 30 : 64,
          ...(spec.labels ? {splits: spec.labels.map((_, i) => i), values: () => spec.labels.map((text, i) => i % every ? "" : text)} : {values: ticks})},
        {stroke: color("muted"), font, grid, ticks: {show: false}, size: 66, space: 34,
          ...(spec.format === count ? {incrs: [1, 2, 5].flatMap(n => [...Array(12).keys()].map(e => n * 10 ** e)).sort((a, b) => a - b)} : {}),
          ...(spec.log ? {splits: u => marks.filter(m => m >= u.scales.y.min && m <= u.scales.y.max), filter: (u, splits) => splits} : {}),
          values: (u, splits) => splits.map(v => spec.format(v))},
      ],
      series: [
        {label: "", value: (u, v, s, i) => v == null ? "" : spec.labels ? spec.labels[i] : moment(v) + " UTC"},
        ...spec.series.map((s, n) => ({
          label: s.label, stroke: color(s.color), width: s.kind === "bar" ? 0 : 2, points: {show: s.points ?? false, size: 4},
          fill: s.kind === "bar" ? color(s.color) : s.kind === "area" ? color(s.color) + "33" : undefined,
          paths: s.kind === "bar" ? bar : undefined,
          value: (u, v, series, i) => i == null ? "" : spec.format(raw()[n][i]),
        })),
      ],
    };
  }

  const all = [];
  function chart(box, spec) {
    let x = spec.x, columns = spec.series.map(s => s.values), plot;
    const data = () => [x, ...(spec.stacked ? stack(columns) : columns)];
    const draw = () => {
      if (plot) plot.destroy();
      plot = new uPlot(options(box, spec, () => columns), data(), box);
    };
    draw();
    new ResizeObserver(() => {
      if (box.clientWidth && box.clientWidth !== plot.width) plot.setSize({width: box.clientWidth, height: plot.height});
    }).observe(box);
    all.push(draw);
    return {set: (newX, newColumns) => { x = newX; columns = newColumns; plot.setData(data()); }};
  }
  dark.addEventListener("change", () => all.forEach(draw => draw()));

  return {chart, count, bytes, rate, seconds, clock, moment};
})();
