// Draws the picture of `casket_integrations.notebook.live` as SVG. All texts are set as text.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 360, HEIGHT = 200;
const LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 20;
/** Colors that are legible on light and dark backgrounds. */
const COLORS = [
  "#2f81f7", "#e8710a", "#2a9d4a", "#d6409f", "#8e6bd8", "#0aa5a5", "#c79a00", "#e5484d",
];

export default { render };

function render({ model, el }) {
  const draw = () => el.replaceChildren(picture(model.get("picture")));
  model.on("change:picture", draw);
  draw();
  return () => model.off("change:picture", draw);
}

function picture({ sessions, charts, more, problem }) {
  const root = element("div", { class: "casket-live", style: "font-size: 12px" });
  if (problem) root.append(element("div", { role: "alert" }, problem));
  const drawn = charts.filter(({ lines }) => lines.some(({ xs }) => xs.length));
  const grid = element("div", { style: "display: flex; flex-wrap: wrap; gap: 12px" });
  grid.append(...drawn.map((chart) => figure(chart, sessions)));
  root.append(grid, legend(sessions, more));
  if (!drawn.length && !problem) root.append(element("div", {}, "no curves yet"));
  return root;
}

function legend(sessions, more) {
  const list = element("div", { style: "display: flex; flex-wrap: wrap; gap: 2px 14px" });
  sessions.forEach(({ name, params, status }, i) => {
    const item = element("span", {});
    item.append(element("span", { style: `color: ${color(i)}` }, "● "), `${name} ${params} ${status}`);
    list.append(item);
  });
  if (more > 0) list.append(element("span", {}, `and ${more.toLocaleString("en")} more`));
  return list;
}

function figure({ metric, lines }, sessions) {
  const box = element("figure", { style: "margin: 0" });
  const readout = element("span", { style: "opacity: 0.75" });
  const head = element("figcaption", {});
  head.append(element("b", {}, metric), " ", readout);
  const scales = scalesOf(lines);
  const svg = create("svg", {
    width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": `curves of ${metric}`,
  });
  svg.append(...axes(scales, lines));
  lines.forEach((line, i) => svg.append(...curve(line, scales, color(i))));
  svg.addEventListener("pointermove", (event) => {
    const x = scales.x.at(event.clientX - svg.getBoundingClientRect().left);
    readout.textContent = nearest(lines, sessions, x);
  });
  svg.addEventListener("pointerleave", () => (readout.textContent = ""));
  box.append(head, svg);
  return box;
}

/** Returns the scales of both axes, which cover all finite points. */
function scalesOf(lines) {
  const xs = lines.flatMap((line) => line.xs);
  const ys = lines.flatMap((line) => line.ys).filter((y) => y !== null);
  return {
    x: scale(xs, LEFT, WIDTH - RIGHT),
    y: scale(ys, HEIGHT - BOTTOM, TOP),
  };
}

function scale(values, from, to) {
  const low = values.length ? Math.min(...values) : 0;
  const high = values.length ? Math.max(...values) : 1;
  // Halves, because the difference of two numbers may overflow.
  const extent = high / 2 - low / 2;
  return {
    low,
    high,
    place: (value) =>
      extent ? from + (to - from) * ((value / 2 - low / 2) / extent) : (from + to) / 2,
    at: (place) => low + ((place - from) / (to - from)) * (high - low),
  };
}

function axes({ x, y }, lines) {
  const unit = lines.find(({ xs }) => xs.length)?.unit ?? "";
  const [bottom, right] = [HEIGHT - BOTTOM, WIDTH - RIGHT];
  const line = create("path", {
    d: `M${LEFT} ${TOP}V${bottom}H${right}`,
    fill: "none", stroke: "currentColor", "stroke-opacity": 0.35,
  });
  const texts = [
    label(LEFT - 4, TOP + 8, "end", number(y.high)),
    label(LEFT - 4, bottom, "end", number(y.low)),
    label(LEFT, HEIGHT - 6, "start", number(x.low)),
    label(right, HEIGHT - 6, "end", number(x.high)),
    label((LEFT + right) / 2, HEIGHT - 6, "middle", unit),
  ];
  return [line, ...texts];
}

function label(x, y, anchor, text) {
  const attributes = { x, y, "text-anchor": anchor, fill: "currentColor", "font-size": 10 };
  return create("text", attributes, text);
}

function curve({ xs, ys }, { x, y }, stroke) {
  let path = "", move = "M";
  xs.forEach((each, i) => {
    if (ys[i] === null) {
      move = "M";
      return;
    }
    path += `${move}${x.place(each).toFixed(1)} ${y.place(ys[i]).toFixed(1)}`;
    move = "L";
  });
  const line = create("path", { d: path, fill: "none", stroke, "stroke-width": 1.5 });
  const last = ys.findLastIndex((each) => each !== null);
  if (last < 0) return [];
  const end = { cx: x.place(xs[last]), cy: y.place(ys[last]), r: 2.5, fill: stroke };
  return [line, create("circle", end)];
}

/** Returns the values of all sessions nearest to a position. */
function nearest(lines, sessions, position) {
  const parts = lines.map(({ xs, ys }, i) => {
    const distances = xs.map((x) => Math.abs(x - position));
    const at = distances.indexOf(Math.min(...distances));
    return at < 0 ? "" : `${sessions[i].name} ${number(ys[at])} at ${number(xs[at])}`;
  });
  return parts.filter(Boolean).join(", ");
}

function number(value) {
  return value === null ? "not finite" : String(Number(value.toPrecision(4)));
}

function color(i) {
  return COLORS[i % COLORS.length];
}

function create(tag, attributes, text) {
  return filled(document.createElementNS(SVG, tag), attributes, text);
}

function element(tag, attributes, text) {
  return filled(document.createElement(tag), attributes, text);
}

function filled(node, attributes, text) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  if (text !== undefined) node.textContent = text;
  return node;
}
