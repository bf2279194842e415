// Starts all parts of the page, and lets the choices of axes and curves have their effect.

const PAPER = 700; // pixels across a printed chart
const BUTTONS = new Map(); // of the legend, by curve

function redraw(width) {
  for (const [series, button] of BUTTONS) {
    button.hidden = CHOSEN.run !== null && series.run !== CHOSEN.run;
    button.setAttribute("aria-pressed", !CHOSEN.hidden.has(series));
  }
  watchPoints(drawChart(width));
}

function sampleOf(series) {
  const line = { class: "line", d: "M0 7H30", "stroke-dasharray": dashOf(series) };
  const marker = svg("g", { transform: "translate(15 7)" }, markerOf(series, 4));
  const sample = svg("svg", { class: "curve", width: 30, height: 14, "aria-hidden": "true" }, svg("path", line), marker);
  sample.style.setProperty("--method", series.colour);
  return sample;
}

function startLegend() {
  for (const series of DATA.series) {
    const button = html("button", { type: "button" }, sampleOf(series), nameOf(series));
    button.addEventListener("click", () => {
      if (!CHOSEN.hidden.delete(series)) CHOSEN.hidden.add(series);
      redraw();
    });
    BUTTONS.set(series, button);
    byId("legend").append(button);
  }
  if (DATA.series.length < 3) return;
  const every = (text, hidden) => {
    const button = html("button", { type: "button", class: "every" }, text);
    button.addEventListener("click", () => {
      CHOSEN.hidden = new Set(hidden);
      redraw();
    });
    byId("legend").append(button);
  };
  every("show all", []);
  every("hide all", DATA.series);
}

function startCurves() {
  if (!DATA.series.length) return;
  byId("curves").hidden = false;
  for (const name of ["x", "y"]) {
    const choices = DATA.axes[name];
    offer(byId(`${name}-axis`), choices.map((axis) => axis.label), (index) => {
      CHOSEN[name] = choices[index];
      redraw();
    });
  }
  if (byId("shown-run")) {
    offer(byId("shown-run"), ["all", ...DATA.runs], (index) => {
      CHOSEN.run = index === 0 ? null : index - 1;
      redraw();
    });
  }
  startLegend();
  watchChart();
  redraw();
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return; // a phone's bars have moved
    width = window.innerWidth;
    redraw();
  });
  window.addEventListener("beforeprint", () => redraw(PAPER));
  window.addEventListener("afterprint", () => redraw());
}

startCurves();
startHeatMap();
startTable();
