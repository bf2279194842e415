// The values of points: by pointing at a curve, and by going from point to point with keys.

const REACH = 40; // pixels from a point within which it is meant
let POINTS = []; // those of the chart, with their places and elements
let current = 0; // the one that the tabulator leads to

/** Take over the points of a chart that was just drawn. */
function watchPoints(points) {
  POINTS = points;
  current = 0;
  hideTip();
  points.forEach((point, index) => {
    point.element.setAttribute("tabindex", index === 0 ? 0 : -1);
    point.element.addEventListener("focus", () => {
      moveTo(index);
      showTip(point);
    });
    point.element.addEventListener("blur", hideTip);
  });
}

/** React to the pointer and to keys, on whatever the chart shows. */
function watchChart() {
  const chart = byId("chart");
  chart.addEventListener("pointermove", (event) => pointAt(event));
  chart.addEventListener("pointerdown", (event) => pointAt(event));
  chart.addEventListener("pointerleave", hideTip);
  chart.addEventListener("keydown", (event) => {
    const next = nextPoint(event.key);
    if (event.key === "Escape") hideTip();
    if (next === null) return;
    event.preventDefault();
    moveTo(next);
    POINTS[next].element.focus();
  });
}

function moveTo(index) {
  POINTS[current]?.element.setAttribute("tabindex", -1);
  current = index;
  POINTS[index].element.setAttribute("tabindex", 0);
}

/** The index of the point to which a key leads, or null. Up and down go to the next curve. */
function nextPoint(key) {
  if (!POINTS.length) return null;
  const last = POINTS.length - 1;
  const jumps = { ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: last };
  if (key in jumps) return Math.min(last, Math.max(0, jumps[key]));
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const curves = [...new Set(POINTS.map((point) => point.series))];
  const here = curves.indexOf(POINTS[current].series);
  const there = curves[(here + (key === "ArrowDown" ? 1 : curves.length - 1)) % curves.length];
  const found = POINTS.findIndex((p) => p.series === there && p.step === POINTS[current].step);
  return found >= 0 ? found : POINTS.findIndex((p) => p.series === there);
}

function pointAt(event) {
  const box = byId("chart").getBoundingClientRect();
  const zoom = box.width / byId("chart").viewBox.baseVal.width;
  const distance = (point) =>
    Math.hypot(box.left + point.left * zoom - event.clientX, box.top + point.top * zoom - event.clientY);
  const nearest = POINTS.reduce((a, b) => (a && distance(a) <= distance(b) ? a : b), null);
  if (nearest && distance(nearest) <= REACH) showTip(nearest);
  else hideTip();
}

function showTip(point) {
  hideTip();
  point.element.classList.add("active");
  const tip = byId("tip");
  tip.textContent = describe(point);
  tip.hidden = false;
  const chart = byId("chart");
  const zoom = chart.clientWidth / chart.viewBox.baseVal.width;
  const room = chart.parentElement.clientWidth - tip.offsetWidth;
  const left = point.left * zoom + 12;
  tip.style.left = `${Math.max(0, left <= room ? left : point.left * zoom - 12 - tip.offsetWidth)}px`;
  tip.style.top = `${Math.max(0, point.top * zoom - tip.offsetHeight - 10)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
  for (const point of POINTS) point.element.classList.remove("active");
}
