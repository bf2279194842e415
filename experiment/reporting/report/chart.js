// The chart: axes, bands, lines and markers of the curves that are shown.

const MARGIN = { left: 52, right: 14, top: 12, bottom: 42 };
const MARKERS = [
  (r) => `M${-r} 0A${r} ${r} 0 1 0 ${r} 0A${r} ${r} 0 1 0 ${-r} 0Z`,
  (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z`,
  (r) => `M0 ${-1.2 * r}L${1.2 * r} ${r}H${-1.2 * r}Z`,
  (r) => `M0 ${1.2 * r}L${1.2 * r} ${-r}H${-1.2 * r}Z`,
  (r) => `M0 ${-1.35 * r}L${1.35 * r} 0L0 ${1.35 * r}L${-1.35 * r} 0Z`,
  (r) => `M${-r / 2} ${-1.3 * r}h${r}v${0.8 * r}h${0.8 * r}v${r}h${-0.8 * r}v${0.8 * r}h${-r}v${-0.8 * r}h${-0.8 * r}v${-r}h${0.8 * r}Z`,
];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

function markerOf(series, radius) {
  const path = MARKERS[series.look % MARKERS.length](radius);
  return svg("path", { class: "marker", d: path });
}

function dashOf(series) {
  return DASHES[(series.look + Math.floor(series.look / 12)) % DASHES.length] || null;
}

/** A value as it is drawn: shares in percent. */
function drawn(axis, value) {
  return axis.percent ? 100 * value : value;
}

/** The points of a curve that have both values, with these, in the order of the x axis. */
function pointsOf(series) {
  return series.points
    .filter((point) => point.mean[CHOSEN.x.key] !== null && point.mean[CHOSEN.y.key] !== null)
    .map((point) => ({
      ...point,
      series,
      x: drawn(CHOSEN.x, point.mean[CHOSEN.x.key]),
      y: drawn(CHOSEN.y, point.mean[CHOSEN.y.key]),
      spread: drawn(CHOSEN.y, point.deviation[CHOSEN.y.key] ?? 0),
    }));
}

/** A scale from values to pixels, with its ticks. */
function linearScale(low, high, from, to) {
  const step = niceStep((high - low) / 6);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) {
    ticks.push(Number(tick.toPrecision(10)));
  }
  return { ticks, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
}

/** Logarithmic, and falling from left to right, so that smaller nets are to the right. */
function logScale(low, high, from, to) {
  const ticks = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (const factor of [1, 2, 5]) {
      const tick = Number((factor * power).toPrecision(3));
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  }
  const span = Math.log(low) - Math.log(high);
  return { ticks, at: (value) => from + ((Math.log(value) - Math.log(high)) / span) * (to - from) };
}

function scales(points, levels, width, height) {
  const xs = points.map((point) => point.x);
  const ys = [...points.flatMap(({ y, spread }) => [y - spread, y + spread]), ...levels];
  const [left, right] = padded(Math.min(...xs), Math.max(...xs));
  const [low, high] = padded(Math.min(...ys), Math.max(...ys));
  const isLog = CHOSEN.x.key === "keep_ratio";
  const xScale = isLog
    ? logScale(Math.max(Math.min(...xs), 1e-7) * 0.9, Math.max(...xs, 1e-6) * 1.1, MARGIN.left, width - MARGIN.right)
    : linearScale(left, right, MARGIN.left, width - MARGIN.right);
  return { x: xScale, y: linearScale(low, high, height - MARGIN.bottom, MARGIN.top) };
}

function padded(low, high) {
  const space = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [low - space, high + space];
}

/** Draw the chart anew. Returns its points with their elements, for `watchPoints`. */
function drawChart(width = byId("chart").parentElement.clientWidth) {
  const chart = byId("chart");
  const height = Math.round(Math.min(480, Math.max(300, width * 0.52)));
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const shown = DATA.series.filter(isShown).map(pointsOf).filter((points) => points.length);
  chart.replaceChildren();
  if (!shown.length) {
    chart.append(svg("text", { x: MARGIN.left, y: height / 2 }, "No curve is shown."));
    return [];
  }
  const levels = levelsShown();
  const { x, y } = scales(shown.flat(), levels, width, height);
  drawAxes(chart, x, y, width, height);
  for (const level of levels) {
    const at = y.at(level);
    const ends = { x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at };
    chart.append(svg("line", { class: "unpruned", ...ends }));
  }
  return shown.flatMap((points) => drawCurve(chart, points, x, y));
}

/** The unpruned nets of the runs that are shown. */
function levelsShown() {
  const runs = new Set(DATA.series.filter(isShown).map((series) => series.run));
  const values = [...runs].map((run) => DATA.unpruned[run][CHOSEN.y.key] ?? null);
  return [...new Set(values.filter((value) => value !== null))].map((value) => drawn(CHOSEN.y, value));
}

function drawAxes(chart, x, y, width, height) {
  const bottom = height - MARGIN.bottom;
  for (const tick of y.ticks) {
    const at = y.at(tick);
    chart.append(svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
    chart.append(svg("text", { x: MARGIN.left - 6, y: at + 4, "text-anchor": "end" }, shortNumber(tick)));
  }
  let last = -Infinity;
  for (const tick of x.ticks) {
    const at = x.at(tick);
    chart.append(svg("line", { class: "grid", x1: at, x2: at, y1: MARGIN.top, y2: bottom }));
    if (Math.abs(at - last) < 34) continue; // labels would touch
    last = at;
    chart.append(svg("text", { x: at, y: bottom + 17, "text-anchor": "middle" }, shortNumber(tick)));
  }
  const middle = (MARGIN.left + width - MARGIN.right) / 2;
  chart.append(svg("text", { x: middle, y: height - 6, "text-anchor": "middle" }, CHOSEN.x.label));
  const half = (MARGIN.top + bottom) / 2;
  const turned = { "text-anchor": "middle", transform: `translate(12 ${half}) rotate(-90)` };
  chart.append(svg("text", turned, CHOSEN.y.label));
}

function shortNumber(value) {
  return String(Number(value.toPrecision(4)));
}

function drawCurve(chart, points, x, y) {
  const [{ series }] = points;
  const group = svg("g", { class: "curve", role: "group", "aria-label": nameOf(series) });
  group.style.setProperty("--method", series.colour);
  const place = (point, shift) => `${x.at(point.x).toFixed(1)} ${y.at(point.y + shift * point.spread).toFixed(1)}`;
  const banded = points.filter((point) => point.deviation[CHOSEN.y.key] !== null); // of several nets
  if (banded.length > 1 && banded.some((point) => point.spread > 0)) {
    const upper = banded.map((point) => place(point, 1));
    const lower = banded.map((point) => place(point, -1)).reverse();
    group.append(svg("path", { class: "band", d: `M${[...upper, ...lower].join("L")}Z` }));
  }
  const line = `M${points.map((point) => place(point, 0)).join("L")}`;
  group.append(svg("path", { class: "line", d: line, "stroke-dasharray": dashOf(series) }));
  chart.append(group);
  const most = Math.max(...points.map((point) => point.nets));
  return points.map((point) => {
    const at = { left: x.at(point.x), top: y.at(point.y) };
    const element = svg(
      "g",
      { class: point.nets < most ? "point few" : "point", role: "img", transform: `translate(${at.left} ${at.top})`, "aria-label": describe(point) },
      markerOf(series, 4),
    );
    group.append(element);
    return { ...point, ...at, element };
  });
}

/** What is told of a point, by pointing at it or by reading it out. */
function describe(point) {
  const digits = CHOSEN.y.percent ? 2 : 4;
  const spread = point.deviation[CHOSEN.y.key];
  const range = spread === null ? "" : ` ± ${drawn(CHOSEN.y, spread).toFixed(digits)}`;
  const nets = point.nets === 1 ? "1 net" : `${point.nets} nets`;
  return [
    nameOf(point.series),
    `${CHOSEN.y.label}: ${point.y.toFixed(digits)}${range}`,
    `${CHOSEN.x.label}: ${point.x.toPrecision(4)}`,
    `step ${point.step}, ${nets}`,
  ].join("\n");
}
