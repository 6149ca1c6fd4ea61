// A chart as a file, with its title, axis titles and legend: SVG, and PNG made of it.

import { scales, traced } from "casket/curves/painter";
import { labels, labelsOfX, logTicks, ticks, ticksOfX } from "casket/model/axis";
import { contextOf } from "casket/shell/html";

const WIDTH = 720;
const BOX = { left: 72, top: 40, width: 628, height: 300 };
const LEGEND = { top: BOX.top + BOX.height + 52, line: 16, columns: 2, room: 314 };
const MOST_NAMES = 20;
const LONGEST_NAME = 48;
const SCALE = 2;
const FAINT = 0.28;
const FONT = "system-ui, sans-serif";

/** Returns functions that save a drawing under a title; `kind` is that of the x axis. */
export function picture(drawing, title, kind) {
  const svg = () => svgOf(drawing, title, kind);
  return { svg, png: () => rastered(svg(), heightOf(drawing)) };
}

/** Returns a picture of pixels, twice as many as a screen shows. */
async function rastered(svg, height) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [WIDTH * SCALE, height * SCALE];
  contextOf(canvas).drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function keysOf({ lines, bands }) {
  return [...new Map([...bands, ...lines].map((line) => [line.key, line])).values()];
}

function heightOf(drawing) {
  const names = Math.min(keysOf(drawing).length, MOST_NAMES + 1);
  return LEGEND.top + Math.ceil(names / LEGEND.columns) * LEGEND.line + 4;
}

function svgOf(drawing, title, kind) {
  const { lines, bands, extent, isLog, x } = drawing;
  const at = scales(BOX, extent.x, extent.y, isLog);
  const [width, height] = [WIDTH, heightOf(drawing)];
  const places = ticksY(extent.y, isLog);
  const texts = labels(places);
  const across = ticksOfX(extent.x, 6, x);
  const textsAcross = labelsOfX(across, x);
  const parts = [
    tag("rect", { width, height, fill: "#fff" }),
    label(title, { x: BOX.left, y: 24, "font-size": 15, "font-weight": 600 }),
    ...across.map((value, i) => tickX(at.x(value), textsAcross[i])),
    ...places.map((value, i) => tickY(at.y(value), texts[i])),
    ...axisTitles(title, { number: kind, metric: kind, time: "time since the start", wall: "time, UTC" }[x], isLog),
    ...bands.map((band) => area(band, at)),
    ...lines.filter(({ raw }) => raw).map((line) => path({ ...line, ys: line.raw }, at, FAINT)),
    ...lines.map((line) => path(line, at)),
    ...bands.map((band) => path({ ...band, ys: band.mean }, at)),
    ...names(drawing),
  ];
  const clip = tag("clipPath", { id: "box" }, tag("rect", {
    x: BOX.left, y: BOX.top, width: BOX.width, height: BOX.height,
  }));
  const head = { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` };
  return tag("svg", { ...head, "font-family": FONT, "font-size": 11 }, clip + parts.join("\n"));
}

function axisTitles(title, over, isLog) {
  const [middle, center] = [BOX.left + BOX.width / 2, BOX.top + BOX.height / 2];
  const shape = { "text-anchor": "middle", "font-size": 12 };
  return [
    label(over, { ...shape, x: middle, y: BOX.top + BOX.height + 34 }),
    label(isLog ? `${title} (log)` : title, {
      ...shape, x: 14, y: center, transform: `rotate(-90 14 ${round(center)})`,
    }),
  ];
}

function path(line, at, opacity = 1) {
  const { runs, gaps } = traced(line, at);
  const shape = { fill: "none", stroke: line.color, opacity, "clip-path": "url(#box)" };
  const dash = line.dash.length ? { "stroke-dasharray": line.dash.join(" ") } : {};
  const d = (pieces) => pieces.map(steps).join("");
  const whole = tag("path", { d: d(runs), "stroke-width": line.width ?? 1.5, ...dash, ...shape });
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
  // A line of a single point is visible only with a cap.
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

/** A name for each color; the metrics determine the dashed lines. */
function names(drawing) {
  const metrics = new Map([...drawing.bands, ...drawing.lines].map((line) => [line.metric, line]));
  const dashes = [...metrics.values()].map(({ metric, dash }, i) => {
    const x = BOX.left + BOX.width - (metrics.size - i) * 130;
    const shape = { x1: x, x2: x + 22, y1: 20, y2: 20, stroke: "#333" };
    const dashed = dash.length ? { "stroke-dasharray": dash.join(" ") } : {};
    return tag("line", { ...shape, ...dashed }) + label(metric.slice(0, 16), { x: x + 28, y: 24 });
  });
  const lines = keysOf(drawing);
  const placeOf = (i) => ({
    x: BOX.left + (i % LEGEND.columns) * LEGEND.room,
    y: LEGEND.top + Math.floor(i / LEGEND.columns) * LEGEND.line,
  });
  const colors = lines.slice(0, MOST_NAMES).map((line, i) => {
    const { x, y } = placeOf(i);
    const dash = line.isRepeated ? { "stroke-dasharray": "6 2" } : {};
    const at = { x1: x, x2: x + 14, y1: y - 4, y2: y - 4 };
    const swatch = tag("line", { ...at, stroke: line.color, "stroke-width": 4, ...dash });
    return swatch + label(line.name.slice(0, LONGEST_NAME), { x: x + 20, y });
  });
  const rest = lines.length - MOST_NAMES;
  if (rest > 0) colors.push(label(`and ${rest} more`, placeOf(MOST_NAMES)));
  return metrics.size > 1 ? [...dashes, ...colors] : colors;
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
