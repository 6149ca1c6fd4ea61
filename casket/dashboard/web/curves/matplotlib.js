// A chart as Python code that draws it with matplotlib, with its data inside.

const FAINT = 0.28;

/** Returns the code of a drawing under a title; `kind` is that of the x axis. */
export function codeOf(drawing, title, kind) {
  const { lines, bands, extent, isLog, x } = drawing;
  const isClock = x === "wall";
  const hasParts = new Set([...lines, ...bands].map(({ metric }) => metric)).size > 1;
  const nameOf = ({ name, metric }) => (hasParts ? `${name}, ${metric}` : name);
  const raw = lines.filter((line) => line.raw)
    .map((line) => lineCode({ ...line, ys: line.raw, dash: [] }, "_raw", FAINT));
  const xlabel = { number: kind, metric: kind, time: "time since the start (s)", wall: "time, UTC" }[x];
  const places = isClock ? ["[datetime.fromtimestamp(x, UTC) for x in ", "]"] : ["", ""];
  return `${isClock ? "from datetime import UTC, datetime\n\n" : ""}import matplotlib.pyplot as plt

nan, inf = float("nan"), float("inf")
bands = [
${bands.map(bandCode).join("")}]
lines = [
${raw.join("")}${lines.map((line) => lineCode(line, nameOf(line))).join("")}${
    bands.map((band) => lineCode({ ...band, ys: band.mean, width: 2 }, nameOf(band))).join("")}]

figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
for xs, low, high, color in bands:
    axes.fill_between(${places.join("xs")}, low, high, color=color, alpha=0.16, linewidth=0)
for xs, ys, style in lines:
    axes.plot(${places.join("xs")}, ys, **style)
axes.set_title(${text(title)})
axes.set_xlabel(${text(xlabel)})
axes.set_ylabel(${text(title)})
${isLog ? 'axes.set_yscale("log")\n' : ""}axes.set_xlim(${places.join(list(extent.x))})
axes.set_ylim(${list(extent.y)})
axes.grid(alpha=0.3)
axes.legend(fontsize="small")
figure.savefig(${JSON.stringify(`${title.replace(/[^\w.-]+/g, "_")}.pdf`)})
`;
}

function lineCode({ xs, ys, color, width, dash }, name, alpha = 1) {
  const style = dash.length ? `(0, (${dash.join(", ")}))` : '"-"';
  const label = name === "_raw" ? '"_raw"' : text(name);
  const look = `"color": "${color}", "linewidth": ${width}, "linestyle": ${style}, "alpha": ${alpha}`;
  return `    (${list(xs)}, ${list(ys)}, {"label": ${label}, ${look}}),\n`;
}

function bandCode({ xs, low, high, color }) {
  return `    (${list(xs)}, ${list(low)}, ${list(high)}, "${color}"),\n`;
}

function list(numbers) {
  const texts = Array.from(numbers, (number) => String(number).replace("NaN", "nan").replace("Infinity", "inf"));
  return `[${texts.join(", ")}]`;
}

/** Matplotlib reads formulas between dollars, and leaves names that begin with "_" out of its legend. */
function text(string) {
  return JSON.stringify(string.replaceAll("$", "\\$").replace(/^_/, " _"));
}
