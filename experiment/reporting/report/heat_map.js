// The heat map: a table of the shares that are kept, by layer and step, coloured by their sizes.

const SHADES = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis

/** The colour of a share. By its root, since most shares are small. */
function shadeOf(share) {
  const place = Math.sqrt(Math.min(1, Math.max(0, share))) * (SHADES.length - 1);
  const index = Math.min(SHADES.length - 2, Math.floor(place));
  return SHADES[index].map((from, i) => Math.round(from + (SHADES[index + 1][i] - from) * (place - index)));
}

function paint(element, share) {
  const shade = shadeOf(share);
  element.style.backgroundColor = `rgb(${shade.join(", ")})`;
  element.style.color = luminance(shade) > 0.179 ? "#000" : "#fff"; // whichever has more contrast
}

/** The relative luminance of a colour, as WCAG defines it. */
function luminance(shade) {
  const [red, green, blue] = shade
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function percentOf(share) {
  return `${(100 * share).toPrecision(share < 0.0995 ? 2 : 3)}%`;
}

function drawHeatMap(map) {
  const steps = map.steps.map((step) => html("th", { scope: "col" }, `step ${step}`));
  const head = html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "layer"), ...steps));
  const body = html("tbody");
  map.layers.forEach((layer, row) => {
    const cells = map.ratios[row].map((share) => {
      if (share === null) return html("td", {}, "");
      const cell = html("td", {}, share === 0 ? "0" : percentOf(share));
      paint(cell, share);
      return cell;
    });
    body.append(html("tr", {}, html("th", { scope: "row" }, layer), ...cells));
  });
  byId("heat-map").replaceChildren(head, body);
}

function startHeatMap() {
  const maps = DATA.layers.flatMap((ofRun, run) => ofRun.map((map) => ({ ...map, run })));
  if (!maps.length) return;
  byId("layers").hidden = false;
  offer(byId("layers-method"), maps.map(nameOf), (index) => drawHeatMap(maps[index]));
  drawHeatMap(maps[0]);
  const samples = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1].map((share) => {
    const sample = html("span");
    paint(sample, share);
    return sample;
  });
  byId("scale").append("nothing", ...samples, "all");
}
