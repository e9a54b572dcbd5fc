"use strict";
// Draws what the page's data hold. Texts are set as texts, never as markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "12 4", "4 2", "1 4", "6 2 1 2 1 2"];
const WIDTHS = [2, 2, 2.4, 2, 1.4, 1.4, 2.8, 1.4];
const MARKS = ["circle", "square", "triangle", "diamond", "cross", "circle", "square", "triangle"];
const BINS = 26, ACTIVE = 64;
const NAMESPACE = "http://www.w3.org/2000/svg";
const slider = document.getElementById("step");
let watchers = [];

// ---- small helpers

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const hue = (run) => colour("run" + (run % 8));
const integer = (value) => Number(value.toPrecision(12)).toLocaleString("en-US");
/** A share as the tables show it: 6.25 is 6.2 there, rounded to even, and would be 6.3 here. */
function percent(value, digits = 1) {
  if (value === null) return "n/a";
  const tie = digits === 1 && (400 * value) % 4 === 1;
  return (100 * value - (tie ? 0.01 : 0)).toFixed(digits) + "%";
}
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function brief(value, digits = 3) {
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return Number((value / size).toPrecision(digits)) + letter;
  }
  return String(Number(value.toPrecision(digits)));
}

function svg(name, attributes = {}, text = null) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function picture(parent, width, height, label) {
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  parent.append(drawing);
  return drawing;
}

/** The place of the last step that is not after one; the first where there is none. */
function placeOf(steps, step) {
  let low = 0, high = steps.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (steps[middle] <= step) low = middle; else high = middle - 1;
  }
  return low;
}

function ticks(from, to, most, least = 0) {
  const rough = Math.max((to - from) / most || 1, least), size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * size).find((s) => s >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) found.push(k * step);
  return found;
}

function mark(kind, x, y, r) {
  if (kind === "square") return `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
  if (kind === "triangle") return `M${x - 1.2 * r} ${y + r}h${2.4 * r}L${x} ${y - 1.2 * r}z`;
  if (kind === "down") return `M${x - 1.2 * r} ${y - r}h${2.4 * r}L${x} ${y + 1.2 * r}z`;
  if (kind === "diamond") return `M${x} ${y - 1.4 * r}L${x + 1.4 * r} ${y}L${x} ${y + 1.4 * r}L${x - 1.4 * r} ${y}z`;
  if (kind === "cross") return `M${x - r} ${y - r}L${x + r} ${y + r}M${x + r} ${y - r}L${x - r} ${y + r}`;
  return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
}

const strokeOf = (run) => ({
  fill: "none", stroke: hue(run), "stroke-width": WIDTHS[run % 8], "stroke-dasharray": DASHES[run % 8], "stroke-linejoin": "round",
});

function drawSwatch(drawing, run) {
  drawing.setAttribute("viewBox", "0 0 44 12");
  drawing.replaceChildren(
    svg("path", { d: "M0 6H44", ...strokeOf(run) }),
    svg("path", { d: mark(MARKS[run % 8], 22, 6, 3.6), fill: hue(run), stroke: hue(run) }));
}

function swatch(run) {
  const drawing = svg("svg", { class: "swatch", "aria-hidden": "true" });
  drawSwatch(drawing, run);
  return drawing;
}

/** The smallest and the largest step of all runs, so that all panels have one axis of time. */
const SPAN = (() => {
  let from = Infinity, to = -Infinity;
  for (const section of DATA.sections) for (const lane of section.lanes) {
    from = Math.min(from, lane.steps[0]);
    to = Math.max(to, lane.steps[lane.steps.length - 1]);
  }
  return from < to ? [Math.min(from, Math.max(0, from - (to - from) / 40)), to] : [from - 1, to + 1];
})();

const STEPS = (() => {
  const all = new Set();
  for (const section of DATA.sections) for (const lane of section.lanes) {
    const shown = Object.values(lane.maps);
    for (const step of shown.length ? shown[0].steps : lane.steps) all.add(step);
  }
  const sorted = [...all].sort((a, b) => a - b);
  const stride = Math.ceil(sorted.length / 600);
  return sorted.filter((_, i) => (sorted.length - 1 - i) % stride === 0);
})();

// ---- frames: axes, and the step that is chosen

const LEFT = 40, RIGHT = 8;

function timeFrame(parent, width, height, bottom, label) {
  const drawing = picture(parent, width, height + bottom, label);
  const x = (step) => LEFT + ((step - SPAN[0]) / (SPAN[1] - SPAN[0])) * (width - LEFT - RIGHT);
  const whole = STEPS.every(Number.isInteger) ? 1 : 0;
  const marked = ticks(SPAN[0], SPAN[1], Math.max(2, Math.min(8, (width - LEFT) / 75)), whole);
  const gap = marked.length > 1 ? marked[1] - marked[0] : 1;
  const digits = Math.min(15, Math.max(3, Math.ceil(Math.log10(Math.abs(SPAN[1]) / gap + 1)) + 1));
  for (const tick of marked) {
    drawing.append(svg("text", { x: x(tick), y: height + bottom - 3, "text-anchor": "middle" }, brief(tick, digits)));
  }
  const cursor = svg("line", { class: "cursor", y1: 4, y2: height + bottom - 16 });
  drawing.append(cursor);
  watchers.push((step) => { cursor.setAttribute("x1", x(step)); cursor.setAttribute("x2", x(step)); });
  drawing.classList.add("time");
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    choose(SPAN[0] + ((at - LEFT) / (width - LEFT - RIGHT)) * (SPAN[1] - SPAN[0]));
  });
  return [drawing, x];
}

function valueAxis(drawing, width, height, most, show) {
  const y = (value) => height - (value / most) * (height - 10);
  for (const tick of ticks(0, most, 3)) {
    drawing.prepend(svg("line", { class: tick ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
    drawing.append(svg("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, show(tick)));
  }
  return y;
}

const widthOf = (parent, columns) => {
  const all = parent.clientWidth || 900;
  if (columns === 1) return all;
  const count = Math.max(1, Math.floor((all + 26) / (304 + 26)));
  return (all - 26 * (count - 1)) / count;
};

function panel(parent, title, small, className = "") {
  const caption = html("figcaption", { title }, title, small ? html("small", {}, " " + small) : "");
  const figure = html("figure", className ? { class: className } : {}, caption);
  parent.append(figure);
  return figure;
}

function heading(parent, section) {
  if (section.title) parent.append(html("h3", {}, section.title));
}

const sizeOf = (neurons) => (neurons ? integer(neurons) + (neurons === 1 ? " neuron" : " neurons") : "");

// ---- curves

function linePath(xs, ys, x, y) {
  let path = "", pen = "M";
  xs.forEach((step, i) => {
    if (ys[i] === null) { pen = "M"; return; }
    path += `${pen}${x(step).toFixed(1)} ${y(ys[i]).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function bandPath(steps, curve, x, y) {
  const there = steps.map((_, i) => i).filter((i) => curve.low[i] !== null);
  const up = there.map((i) => `${x(steps[i]).toFixed(1)} ${y(curve.high[i]).toFixed(1)}`);
  const down = there.reverse().map((i) => `${x(steps[i]).toFixed(1)} ${y(curve.low[i]).toFixed(1)}`);
  return up.length ? "M" + up.concat(down).join("L") + "z" : "";
}

function spoken(lanes, curveOf) {
  return lanes.map((lane) => {
    const y = curveOf(lane).y.filter((value) => value !== null);
    return `${DATA.runs[lane.run]}: ${y.length ? percent(y[0]) + " inactive at first, " + percent(y[y.length - 1]) + " at last" : "not judged"}`;
  }).join("; ");
}

function curvePanel(parent, title, lanes, curveOf, resetsOf, most, width, height) {
  const there = lanes.filter(curveOf);
  const strip = 9 * there.length + 4;
  const [drawing, x] = timeFrame(parent, width, height, strip + 18, `${title}, inactive neurons over time. ${spoken(there, curveOf)}`);
  const y = valueAxis(drawing, width, height, most, (value) => percent(value, 0));
  there.forEach((lane, row) => {
    const curve = curveOf(lane), resets = resetsOf(lane);
    if (curve.low) drawing.append(svg("path", { d: bandPath(lane.steps, curve, x, y), fill: hue(lane.run), opacity: 0.18 }));
    drawing.append(svg("path", { d: linePath(lane.steps, curve.y, x, y), ...strokeOf(lane.run) }));
    const few = lane.steps.filter((_, i) => curve.y[i] !== null);
    const every = Math.max(1, Math.floor(few.length / 5));
    let points = "";
    lane.steps.forEach((step, i) => {
      const last = i === lane.steps.length - 1;
      if (curve.y[i] !== null && (last || (i + 1 + row * Math.floor(every / 2)) % every === 0)) points += mark(MARKS[lane.run % 8], x(step), y(curve.y[i]), 3);
    });
    drawing.append(svg("path", { d: points, fill: hue(lane.run), stroke: hue(lane.run) }));
    let bars = "";
    lane.steps.forEach((step, i) => { if (resets[i]) bars += `M${x(step).toFixed(1)} ${height + 5 + 9 * row}v7`; });
    drawing.append(svg("path", { d: bars, stroke: hue(lane.run), "stroke-width": 1.3, fill: "none" }));
  });
  return drawing;
}

function readout(caption, lanes, curveOf) {
  const small = html("small");
  caption.append(small);
  watchers.push((step) => {
    small.textContent = " " + lanes.filter(curveOf).map((lane) => percent(curveOf(lane).y[placeOf(lane.steps, step)])).join(" · ");
  });
}

function niceTop(values) {
  const highest = Math.max(0.02, ...values);
  return [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1].find((top) => top >= highest) || 1;
}

const highest = (curve) => (curve.high || curve.y).reduce((most, value) => Math.max(most, value || 0), 0);

function drawCurves(parent) {
  for (const section of DATA.sections) {
    heading(parent, section);
    const lanes = section.lanes;
    const known = lanes.some((lane) => lane.total.y.some((value) => value !== null));
    if (known && section.groups.length > 1) {
      const figure = panel(parent, "All groups together", "", "wide");
      readout(figure.firstChild, lanes, (lane) => lane.total);
      const top = niceTop(lanes.map((lane) => highest(lane.total)));
      curvePanel(figure, "All groups", lanes, (lane) => lane.total, (lane) => lane.reset, top, widthOf(parent, 1), 210);
    }
    const top = niceTop(lanes.flatMap((lane) => Object.values(lane.groups).map(highest)));
    section.groups.forEach((name, number) => {
      const figure = panel(parent, name, "");
      const curveOf = (lane) => lane.groups[number];
      readout(figure.firstChild, lanes, curveOf);
      const resetsOf = (lane) => (curveOf(lane).reset.some((count) => count !== null) ? curveOf(lane).reset : lane.reset);
      curvePanel(figure, name, lanes, curveOf, resetsOf, top, widthOf(parent), 120);
    });
  }
}

// ---- resets

function drawResets(parent) {
  for (const section of DATA.sections) {
    const lanes = section.lanes.filter((lane) => lane.reset.some((count) => count));
    if (!lanes.length) continue;
    heading(parent, section);
    const most = Math.max(4, ...lanes.flatMap((lane) => lane.reset.map((count, i) => Math.max(count || 0, lane.again[i] || 0))));
    for (const lane of lanes) {
      const sum = (counts) => counts.reduce((all, count) => all + (count || 0), 0);
      const words = `${integer(sum(lane.reset))} reset, ${integer(sum(lane.again))} of them again inactive`;
      const figure = panel(parent, DATA.runs[lane.run], words, "wide");
      const width = widthOf(parent, 1), height = 130;
      const [drawing, x] = timeFrame(figure, width, height, 18, `${DATA.runs[lane.run]}: ${words}`);
      const y = valueAxis(drawing, width, height, most, brief);
      const thick = Math.max(1, Math.min(14, ((width - LEFT - RIGHT) / lane.steps.length) * 0.62));
      const bar = (step, count) => `M${(x(step) - thick / 2).toFixed(1)} ${y(0)}V${y(count).toFixed(1)}h${thick.toFixed(1)}V${y(0)}z`;
      const path = (counts) => lane.steps.map((step, i) => (counts[i] ? bar(step, counts[i]) : "")).join("");
      const line = { stroke: hue(lane.run), "stroke-width": thick > 3 ? 1.2 : 0.5 };
      drawing.append(svg("path", { d: path(lane.reset), fill: hue(lane.run), "fill-opacity": 0.16, ...line }));
      drawing.append(svg("path", { d: path(lane.again), fill: hue(lane.run), ...line }));
    }
  }
}

// ---- maps

function mixed(from, to, share) {
  const part = (text, i) => parseInt(text.slice(1 + 2 * i, 3 + 2 * i), 16);
  return [0, 1, 2].map((i) => Math.round(part(from, i) + (part(to, i) - part(from, i)) * share));
}

function palette() {
  const shades = [mixed(colour("unknown"), colour("unknown"), 0), mixed(colour("zero"), colour("zero"), 0)];
  for (let code = 2; code < 256; code++) {
    shades.push(code < ACTIVE ? mixed(colour("low0"), colour("low1"), (code - 2) / 61) : mixed(colour("high0"), colour("high1"), (code - ACTIVE) / 191));
  }
  return shades;
}

/** Where a column begins and ends on the axis of time: half way to the next. */
function borders(steps, x) {
  const middle = steps.slice(1).map((step, i) => (x(step) + x(steps[i])) / 2);
  const gap = steps.length > 1 ? x(steps[1]) - x(steps[0]) : 40;
  return [Math.max(LEFT, x(steps[0]) - gap / 2), ...middle, x(steps[steps.length - 1]) + (steps.length > 1 ? 0 : gap / 2)];
}

function drawMap(parent, map, name, run, shades, width) {
  const columns = map.steps.length, codes = bytes(map.codes), marks = bytes(map.marks);
  const height = Math.round(Math.max(70, Math.min(220, map.rows * 3)));
  const image = new ImageData(columns, map.rows);
  codes.forEach((code, i) => image.data.set([...shades[code], 255], 4 * i));
  const small = document.createElement("canvas");
  [small.width, small.height] = [columns, map.rows];
  small.getContext("2d").putImageData(image, 0, 0);
  const zero = codes.filter((code, i) => code && code < ACTIVE && i % columns === columns - 1).length;
  const label = `${name}, ${run}: scores of ${sizeOf(map.neurons)} at ${columns} measurements; ${percent(zero / map.rows)} of the rows are inactive at the last`;
  const box = html("div", { class: "map" });
  parent.append(box);
  const [drawing, x] = timeFrame(box, width, height, 18, label);
  const ratio = Math.min(2, window.devicePixelRatio || 1), edges = borders(map.steps, x);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round((edges[columns] - edges[0]) * ratio), Math.round(height * ratio)];
  const paint = canvas.getContext("2d");
  paint.imageSmoothingEnabled = false;
  const at = (i) => Math.round((edges[i] - edges[0]) * ratio);
  for (let i = 0; i < columns; i++) paint.drawImage(small, i, 0, 1, map.rows, at(i), 0, Math.max(1, at(i + 1) - at(i)), canvas.height);
  const cell = canvas.height / map.rows;
  [paint.strokeStyle, paint.lineWidth] = [colour("ring"), ratio * 0.7];
  paint.beginPath();
  codes.forEach((code, i) => {  // not finite: struck through, since its grey alone may be taken for a score
    if (code) return;
    const top = Math.floor(i / columns) * cell;
    paint.moveTo(at(i % columns), top + cell);
    paint.lineTo(at((i % columns) + 1), top);
  });
  paint.stroke();
  [paint.fillStyle, paint.strokeStyle, paint.lineWidth] = [colour("ringfill"), colour("ring"), ratio];
  const radius = Math.max(1.3 * ratio, Math.min(3.2 * ratio, cell * 0.45));
  for (let i = 0; map.marks && i < map.rows * columns; i++) {
    if (!((marks[i >> 3] >> (i & 7)) & 1)) continue;
    paint.beginPath();
    paint.arc((at(i % columns) + at((i % columns) + 1)) / 2, (Math.floor(i / columns) + 0.5) * cell, radius, 0, 2 * Math.PI);
    paint.fill();
    paint.stroke();
  }
  const link = svg("image", { x: edges[0], y: 0, width: edges[columns] - edges[0], height, preserveAspectRatio: "none", href: canvas.toDataURL() });
  drawing.prepend(link);
  drawing.append(svg("rect", { x: edges[0], y: 0, width: edges[columns] - edges[0], height, fill: "none", class: "axis" }));
  drawing.append(svg("text", { x: LEFT - 6, y: 11, "text-anchor": "end" }, "low"), svg("text", { x: LEFT - 6, y: height - 2, "text-anchor": "end" }, "high"));
}

function drawMaps(parent) {
  const shades = palette();
  for (const section of DATA.sections) {
    if (!section.lanes.some((lane) => Object.keys(lane.maps).length)) continue;
    heading(parent, section);
    section.groups.forEach((name, number) => {
      const lanes = section.lanes.filter((lane) => lane.maps[number]);
      if (!lanes.length) return;
      const several = DATA.runs.length > 1, first = lanes[0].maps[number];
      const rows = first.rows < first.neurons ? `, in ${first.rows} rows` : "";
      const outer = html("div", { class: "wide side" });
      parent.append(outer);
      const fit = Math.max(1, Math.min(lanes.length, Math.floor((parent.clientWidth + 26) / (352 + 26))));
      for (const lane of lanes) {
        const figure = panel(outer, several ? `${name} · ${DATA.runs[lane.run]}` : name, sizeOf(first.neurons) + rows);
        drawMap(figure, lane.maps[number], name, DATA.runs[lane.run], shades, (parent.clientWidth - 26 * (fit - 1)) / fit);
      }
    });
  }
}

function mapLegend(parent) {
  const box = (shade, text) => {
    const drawing = svg("svg", { viewBox: "0 0 22 12", "aria-hidden": "true" });
    drawing.style.width = "22px";
    drawing.append(...shade);
    return html("span", {}, drawing, text);
  };
  const filled = (...names) => names.map((name, i) => svg("rect", { x: (22 / names.length) * i, width: 22 / names.length, height: 12, fill: colour(name) }));
  const taus = new Set(DATA.sections.flatMap((section) => section.lanes.map((lane) => lane.tau)).filter((tau) => tau !== null));
  const tau = taus.size === 1 ? String([...taus][0]) : "tau";
  parent.append(box(filled("zero"), "score 0"));
  if (tau !== "0") parent.append(box(filled("low0", "low1"), `at most ${tau}`));
  parent.append(box(filled("high0", "high1"), `above ${tau}, to 10`), 
    box([...filled("unknown"), svg("path", { d: "M0 12L22 0", stroke: colour("ring") })], "not finite"),
    box([svg("circle", { cx: 11, cy: 6, r: 3.5, fill: colour("ringfill"), stroke: colour("ring") })], "reset"));
}

// ---- distributions

function hatch(drawing, run, name) {
  const pattern = svg("pattern", { id: name, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(svg("rect", { width: 5, height: 5, fill: hue(run), "fill-opacity": 0.35 }), svg("line", { y2: 5, stroke: hue(run), "stroke-width": 3.4 }));
  drawing.append(svg("defs"));
  drawing.lastChild.append(pattern);
}

function drawScores(parent) {
  DATA.sections.forEach((section, part) => {
    const there = section.groups.map((_, number) => section.lanes.filter((lane) => lane.maps[number]));
    if (there.some((lanes) => lanes.length)) heading(parent, section);
    section.groups.forEach((name, number) => {
      if (there[number].length) scorePanel(parent, name, number, there[number], `${part}-${number}`);
    });
  });
}

function scorePanel(parent, name, number, lanes, id) {
  const figure = panel(parent, name, sizeOf(lanes[0].maps[number].neurons));
  const width = widthOf(parent), rowHeight = lanes.length > 2 ? 44 : 66, left = 8;
  const zeroWidth = 22, unit = (width - left - RIGHT - 2 * zeroWidth - 8) / 24;
  const edge = (bin) => (bin === 0 ? left : bin === 25 ? width - RIGHT - zeroWidth : left + zeroWidth + 4 + (bin - 1) * unit);
  const height = rowHeight * lanes.length;
  const drawing = picture(figure, width, height + 18, `${name}: distribution of scores`);
  const words = [], several = DATA.runs.length > 1;
  lanes.forEach((lane, row) => {
    const map = lane.maps[number], raw = bytes(map.bins), base = rowHeight * (row + 1);
    const share = (column, bin) => { const i = 2 * (column * BINS + bin); return (raw[i] + 256 * raw[i + 1]) / 65535; };
    const count = (column, bin) => Math.round(share(column, bin) * map.neurons);
    let most = 0.02;
    for (let i = 0; i < raw.length; i += 2) most = Math.max(most, (raw[i] + 256 * raw[i + 1]) / 65535);
    hatch(drawing, lane.run, `hatch-${id}-${lane.run}`);
    const low = svg("path", { fill: `url(#hatch-${id}-${lane.run})`, stroke: hue(lane.run) });
    const high = svg("path", { fill: hue(lane.run), "fill-opacity": 0.22, stroke: hue(lane.run) });
    const odd = svg("path", { fill: colour("unknown"), stroke: hue(lane.run) });
    const text = svg("text", { x: width - RIGHT, y: base - rowHeight + 14, "text-anchor": "end" });
    drawing.append(svg("line", { class: "axis", x1: left, x2: width - RIGHT, y1: base, y2: base }), low, high, odd, text);
    watchers.push((step) => {
      const column = placeOf(map.steps, step);
      const bar = (bin) => {
        const value = share(column, bin);
        if (!value) return "";
        const top = base - Math.max(1.5, Math.sqrt(value / most) * (rowHeight - 20)), wide = bin === 0 || bin === 25 ? zeroWidth - 3 : unit - 1;
        return `M${edge(bin).toFixed(1)} ${base}V${top.toFixed(1)}h${wide.toFixed(1)}V${base}z`;
      };
      const bins = [...Array(BINS).keys()];
      low.setAttribute("d", bins.slice(0, 7).map(bar).join(""));
      high.setAttribute("d", bins.slice(7, 25).map(bar).join(""));
      odd.setAttribute("d", bar(25));
      const judged = map.neurons - count(column, 25), part = (n) => percent(judged ? n / judged : null);
      const inactive = part(bins.slice(0, 7).reduce((all, bin) => all + count(column, bin), 0));
      text.textContent = `${several ? shortened(DATA.runs[lane.run]) + ": " : ""}${inactive} at most tau`;
      words[row] = `${DATA.runs[lane.run]}, step ${integer(map.steps[column])}: ${inactive} at most tau, ${part(count(column, 0))} exactly zero`;
      if (row === lanes.length - 1) drawing.setAttribute("aria-label", `${name}, distribution of scores. ${words.join("; ")}`);
    });
  });
  const tau = lanes[0].tau, top = Math.max(10, 10 * (tau || 1e-4)), start = tau || 1e-4;
  const at = (score) => edge(7) + (Math.log(score / start) / Math.log(top / start)) * 18 * unit;
  drawing.append(svg("text", { x: left + 2, y: height + 14 }, "0"));
  if (tau) drawing.append(svg("line", { class: "tau", x1: edge(7) - 0.5, x2: edge(7) - 0.5, y1: 2, y2: height }));
  for (const [score, label] of [[start, tau ? `tau ${tau}` : brief(start)], [1, "1"], [top, brief(top)]]) {
    if (score <= top) drawing.append(svg("text", { x: at(score), y: height + 14, "text-anchor": score === top ? "end" : "middle" }, label));
  }
}

const shortened = (name) => (name.length > 18 ? name.slice(0, 17) + "…" : name);

// ---- quadrants

const KINDS = [["circle", "active by both"], ["square", "fires, does not learn"], ["triangle", "hardly fires, learns"], ["down", "inactive by both"]];

function drawQuadrants(parent) {
  for (const entry of DATA.quadrants) {
    const several = DATA.runs.length > 1, all = entry.points < entry.neurons ? `, ${entry.points} of them drawn` : "";
    const figure = panel(parent, several ? `${entry.title} · ${DATA.runs[entry.run]}` : entry.title, sizeOf(entry.neurons) + all);
    const width = widthOf(parent), size = Math.min(width, 320), from = 46, low = size - 36;
    const drawing = picture(figure, width, size, entry.title);
    const x = (code) => from + (code / 255) * (width - from - RIGHT), y = (code) => low - (code / 255) * (low - 8);
    drawing.append(
      svg("rect", { class: "axis", x: from, y: 8, width: width - from - RIGHT, height: low - 8, fill: "none" }),
      svg("line", { class: "tau", x1: x(ACTIVE), x2: x(ACTIVE), y1: 8, y2: low }),
      svg("line", { class: "tau", x1: from, x2: width - RIGHT, y1: y(ACTIVE), y2: y(ACTIVE) }));
    const scale = (tau, score) => { const start = tau || 1e-4; return ACTIVE + (Math.log(score / start) / Math.log(Math.max(10, 10 * start) / start)) * 191; };
    for (const [code, label] of [[1, "0"], [ACTIVE, String(entry.tau[0])], [scale(entry.tau[0], 1), "1"]]) {
      drawing.append(svg("text", { x: x(code), y: low + 15, "text-anchor": "middle" }, label));
    }
    for (const [code, label] of [[1, "0"], [ACTIVE, String(entry.tau[1])], [scale(entry.tau[1], 1), "1"]]) {
      drawing.append(svg("text", { x: from - 6, y: y(code) + 4, "text-anchor": "end" }, label));
    }
    drawing.append(svg("text", { x: width - RIGHT, y: low + 31, "text-anchor": "end" }, "tau-dormant score →"));
    drawing.append(svg("text", { x: 11, y: 8, "text-anchor": "end", transform: "rotate(-90 11 8)" }, "GraMa score →"));
    const paths = KINDS.map(() => svg("path", { fill: hue(entry.run), "fill-opacity": 0.55, stroke: hue(entry.run), "stroke-width": 0.8 }));
    const corners = [[width - RIGHT - 6, 24, "end"], [width - RIGHT - 6, low - 7, "end"], [from + 6, 24, "start"], [from + 6, low - 7, "start"]];
    const numbers = corners.map(([cx, cy, anchor]) => svg("text", { class: "strong", x: cx, y: cy, "text-anchor": anchor }));
    drawing.append(...paths, ...numbers);
    const xs = bytes(entry.x), ys = bytes(entry.y);
    watchers.push((step) => {
      const place = placeOf(entry.steps, step), shapes = ["", "", "", ""];
      for (let i = place * entry.points; i < (place + 1) * entry.points; i++) {
        if (!xs[i] || !ys[i]) continue;
        const kind = 2 * (xs[i] < ACTIVE) + (ys[i] < ACTIVE);
        shapes[kind] += mark(KINDS[kind][0], +x(xs[i]).toFixed(1), +y(ys[i]).toFixed(1), 2.6);
      }
      paths.forEach((path, kind) => path.setAttribute("d", shapes[kind]));
      numbers.forEach((text, kind) => { text.textContent = integer(entry.kinds[place][kind]); });
      const counts = KINDS.map(([, what], kind) => `${entry.kinds[place][kind]} ${what}`).join(", ");
      drawing.setAttribute("aria-label", `${entry.title}, ${DATA.runs[entry.run]}, step ${integer(entry.steps[place])}: ${counts}`);
    });
  }
}

function kindLegend(parent) {
  for (const [kind, what] of KINDS) {
    const drawing = svg("svg", { viewBox: "0 0 14 12", "aria-hidden": "true" });
    drawing.style.width = "14px";
    drawing.append(svg("path", { d: mark(kind, 7, 6, 3.6), fill: colour("soft") }));
    parent.append(html("span", {}, drawing, what));
  }
}

// ---- the page

function runLegend(parent) {
  if (DATA.runs.length > 1) DATA.runs.forEach((name, run) => parent.append(html("span", {}, swatch(run), name)));
}

function show() {
  const step = STEPS[Number(slider.value)];
  document.getElementById("step-shown").textContent = integer(step);
  slider.setAttribute("aria-valuetext", "step " + integer(step));
  for (const watch of watchers) watch(step);
}

function choose(step) {
  const place = placeOf(STEPS, step);
  const next = Math.min(place + 1, STEPS.length - 1);
  slider.value = STEPS[next] - step < step - STEPS[place] ? next : place;
  show();
}

function draw() {
  watchers = [];
  document.querySelectorAll("svg.swatch[data-run]").forEach((drawing) => drawSwatch(drawing, Number(drawing.dataset.run)));
  const parts = [["curves", drawCurves, runLegend], ["resets", drawResets, () => {}], ["maps", drawMaps, mapLegend],
    ["scores", drawScores, runLegend], ["quadrants", drawQuadrants, kindLegend]];
  for (const [name, drawPart, legend] of parts) {
    const parent = document.getElementById(name);
    if (!parent) continue;
    parent.replaceChildren();
    const keys = document.getElementById(name + "-legend");
    keys.replaceChildren();
    legend(keys);
    drawPart(parent);
  }
  show();
}

slider.max = STEPS.length - 1;
slider.value = STEPS.length - 1;
slider.addEventListener("input", show);
const main = document.querySelector("main");
let width = main.clientWidth, waiting = 0;
new ResizeObserver(() => {
  if (main.clientWidth === width) return;
  width = main.clientWidth;
  clearTimeout(waiting);
  waiting = setTimeout(draw, 150);
}).observe(main);
for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) window.matchMedia(query).addEventListener("change", draw);
draw();
