// A chart as a file: PNG of what is seen, SVG written from the data.

import { shownNumber } from "casket/model/facts";
import { shownX } from "casket/curves/chart";
import { scales, traced } from "casket/curves/painter";
import { logTicks } from "casket/model/points";
import { contextOf } from "casket/shell/html";

const WIDTH = 720;
const HEIGHT = 420;
const BOX = { left: 64, top: 40, width: 636, height: 300 };
const MOST_NAMES = 12;
const LONGEST_NAME = 34;
const FAINT = 0.28;
const FONT = "system-ui, sans-serif";

/** Returns how to save a drawing under a title. */
export function picture(drawing, title) {
  return {
    svg: () => svgOf(drawing, title),
    png: (canvas, onDone) => withTitle(canvas, drawing, title).toBlob(onDone, "image/png"),
  };
}

function withTitle(canvas, { colors }, title) {
  const ratio = devicePixelRatio;
  const made = document.createElement("canvas");
  made.width = canvas.width;
  made.height = canvas.height + 28 * ratio;
  const context = contextOf(made);
  context.fillStyle = colors.ground;
  context.fillRect(0, 0, made.width, made.height);
  context.fillStyle = colors.text;
  context.font = `600 ${14 * ratio}px ${FONT}`;
  context.fillText(title, 12 * ratio, 20 * ratio);
  context.drawImage(canvas, 0, 28 * ratio);
  return made;
}

function svgOf(drawing, title) {
  const { lines, bands, extent, isLog, x } = drawing;
  const at = scales(BOX, extent.x, extent.y, isLog);
  const parts = [
    tag("rect", { width: WIDTH, height: HEIGHT, fill: "#fff" }),
    label(title, { x: BOX.left, y: 24, "font-size": 15, "font-weight": 600 }),
    ...ticks(extent.x, 7).map((value) => tickX(at.x(value), shownX(value, x))),
    ...ticksY(extent.y, isLog).map((value) => tickY(at.y(value), shownNumber(value))),
    ...bands.map((band) => area(band, at)),
    ...lines.filter(({ raw }) => raw).map((line) => path({ ...line, ys: line.raw }, at, FAINT)),
    ...lines.map((line) => path(line, at)),
    ...bands.map((band) => path({ ...band, ys: band.mean }, at)),
    ...names([...bands, ...lines]),
  ];
  const { left: x0, top: y0, width, height } = BOX;
  const clip = tag("clipPath", { id: "box" }, tag("rect", { x: x0, y: y0, width, height }));
  const head = { xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${WIDTH} ${HEIGHT}` };
  return tag("svg", { ...head, "font-family": FONT, "font-size": 11 }, clip + parts.join("\n"));
}

function path(line, at, opacity = 1) {
  const { runs, gaps } = traced(line, at);
  const shape = { fill: "none", stroke: line.color, opacity, "clip-path": "url(#box)" };
  const dash = line.dash.length ? { "stroke-dasharray": line.dash.join(" ") } : {};
  const d = (pieces) => pieces.map(steps).join("");
  const whole = tag("path", { d: d(runs), "stroke-width": 1.5, ...dash, ...shape });
  if (!gaps.length) return whole;
  return whole + tag("path", { d: d(gaps), "stroke-dasharray": "1 3", ...shape });
}

function area({ xs, low, high, color }, at) {
  const inside = [...xs.keys()].filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
  const there = inside.map((i) => [at.x(xs[i]), at.y(high[i])]);
  const back = inside.reverse().map((i) => [at.x(xs[i]), at.y(low[i])]);
  const d = steps([...there, ...back].flat().map((value) => (Number.isFinite(value) ? value : 0)));
  return tag("path", { d, fill: color, "fill-opacity": 0.16, "clip-path": "url(#box)" });
}

function steps(points) {
  let d = `M${round(points[0])} ${round(points[1])}`;
  for (let i = 2; i < points.length; i += 2) d += `L${round(points[i])} ${round(points[i + 1])}`;
  // A line of one point shows only where it has an end.
  return points.length === 2 ? `${d}h.1` : d;
}

function tickX(x, text) {
  const bottom = BOX.top + BOX.height;
  const line = { x1: x, x2: x, y1: BOX.top, y2: bottom, stroke: "#ddd" };
  return tag("line", line) + label(text, { x, y: bottom + 16, "text-anchor": "middle" });
}

function tickY(y, text) {
  const line = { x1: BOX.left, x2: BOX.left + BOX.width, y1: y, y2: y, stroke: "#ddd" };
  return tag("line", line) + label(text, { x: BOX.left - 6, y: y + 4, "text-anchor": "end" });
}

/** A name for each color; which line is dashed, the metrics say. */
function names(lines) {
  const byKey = new Map(lines.map((line) => [line.key, line]));
  const metrics = new Map(lines.map((line) => [line.metric, line]));
  const dashes = [...metrics.values()].map(({ metric, dash }, i) => {
    const x = BOX.left + BOX.width - (metrics.size - i) * 110;
    const shape = { x1: x, x2: x + 22, y1: 20, y2: 20, stroke: "#333" };
    const dashed = dash.length ? { "stroke-dasharray": dash.join(" ") } : {};
    return tag("line", { ...shape, ...dashed }) + label(metric.slice(0, 12), { x: x + 28, y: 24 });
  });
  const colors = [...byKey.values()].slice(0, MOST_NAMES).map((line, i) => {
    const x = BOX.left + (i % 3) * 215;
    const y = BOX.top + BOX.height + 36 + Math.floor(i / 3) * 14;
    const swatch = tag("rect", { x, y: y - 8, width: 10, height: 8, fill: line.color });
    return swatch + label(line.name.slice(0, LONGEST_NAME), { x: x + 14, y });
  });
  return metrics.size > 1 ? [...dashes, ...colors] : colors;
}

function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / step);
  const found = [];
  for (let i = first; i * step <= high; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function ticksY([low, high], isLog) {
  return isLog ? logTicks([low, high]) : ticks([low, high], 6);
}

function label(text, attributes) {
  return tag("text", { fill: "#333", ...attributes }, escaped(text));
}

function tag(name, attributes, inside = "") {
  const list = Object.entries(attributes).map(([key, value]) => {
    const text = typeof value === "number" ? round(value) : escaped(String(value));
    return ` ${key}="${text}"`;
  });
  return `<${name}${list.join("")}>${inside}</${name}>`;
}

function round(number) {
  return Math.round(number * 100) / 100;
}

function escaped(text) {
  const signs = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  // Control characters are not allowed in XML, however they are written.
  // eslint-disable-next-line no-control-regex
  return text.replace(/[&<>"]/g, (sign) => signs[sign]).replace(/[\0-\x08\x0b\x0c\x0e-\x1f]/g, "");
}
