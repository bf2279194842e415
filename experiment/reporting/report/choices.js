"use strict";

// What several parts of the page need: its data, what was chosen, and making elements.
// Names come from configurations and folders: they only ever become text nodes or attributes.

const DATA = JSON.parse(document.getElementById("data").textContent);

const CHOSEN = { x: DATA.axes.x[0], y: DATA.axes.y[0], run: null, hidden: new Set() };

const SVG = "http://www.w3.org/2000/svg";

function byId(id) {
  return document.getElementById(id);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Fill a select element with texts; `chosen` is called with the index of the one that is chosen. */
function offer(select, texts, chosen) {
  select.replaceChildren(...texts.map((text, index) => html("option", { value: index }, text)));
  select.addEventListener("change", () => chosen(Number(select.value)));
}

function nameOf(series) {
  const isAlone = DATA.runs.length === 1;
  return isAlone ? series.method : `${series.method}, ${DATA.runs[series.run]}`;
}

function isShown(series) {
  const isOfRun = CHOSEN.run === null || series.run === CHOSEN.run;
  return isOfRun && !CHOSEN.hidden.has(series);
}
