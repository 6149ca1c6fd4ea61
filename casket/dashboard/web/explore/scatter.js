import { EChart, axis, categoryAxis, clipped, tooltip } from "casket/explore/echart";
import { isNumber, shown, shownNumber, valueOf } from "casket/model/facts";
import { html } from "casket/shell/html";
import { keyOfValues } from "casket/model/arrange";
import { logRange, logTicks } from "casket/model/axis";
import { account, placeOf, placed, scaleOf } from "casket/model/points";
import { SessionLink } from "casket/session/session_link";
import { useCallback, useMemo, useState } from "preact/hooks";
import { state, update } from "casket/model/view";
import { colorOf, repeatsAmong } from "casket/shell/paint";

const MOST_IN_TABLE = 200;
const MOST_COLORS = 6;
const DIGITS = 4;
const SYMBOLS = ["circle", "triangle", "diamond", "rect", "pin", "arrow"];

/** Any two facts of the sessions against each other, colored by a third. */
export function Scatter({ rows, x, y, color, logX, logY, choose, names }) {
  const { selected } = state.value;
  const [isSelecting, setSelecting] = useState(false);
  const scales = useMemo(
    () => [scaleOf(rows, x, logX), scaleOf(rows, y, logY)],
    [rows, x, y, logX, logY],
  );
  const { points, leftOut } = useMemo(() => placed(rows, scales), [rows, scales]);
  const tint = useMemo(() => (color ? scaleOf(rows, color) : null), [rows, color]);
  const gray = tint ? points.filter(({ row }) => placeOf(row, tint).problem).length : 0;
  const option = useCallback(
    (palette) => optionOf(points, scales, tint, new Set(selected), palette),
    [points, scales, tint, selected],
  );
  const open = ({ data }) => data?.key && update({ view: "session", session: data.key });
  const select = ({ areas }, chart) => {
    const [area] = areas;
    if (!area) return;
    const inside = points.filter(({ at }) => isInside(at, area.coordRange));
    chart.dispatchAction({ type: "brush", areas: [] });
    setSelecting(false);
    if (inside.length) update({ selected: inside.map(({ row }) => row.key) });
  };
  const allowSelecting = (chart) => {
    const brushOption = { brushType: isSelecting ? "rect" : false, brushMode: "single" };
    chart.dispatchAction({ type: "takeGlobalCursor", key: "brush", brushOption });
  };
  const [scaleX, scaleY] = scales;
  return html`<section class="chart-card" aria-labelledby="scatter-title">
    <h2 id="scatter-title">${y} against ${x}</h2>
    <div class="bar">
      <${Choice} label="across" value=${x} names=${names} onChange=${(v) => choose({ x: v })} />
      <${Log} scale=${scaleX} label="log" onChange=${(v) => choose({ logX: v })} />
      <${Choice} label="up" value=${y} names=${names} onChange=${(v) => choose({ y: v })} />
      <${Log} scale=${scaleY} label="log" onChange=${(v) => choose({ logY: v })} />
      <${Choice} label="color" value=${color} names=${["", ...names]}
        onChange=${(v) => choose({ color: v })} />
      <button type="button" aria-pressed=${isSelecting} onClick=${() => setSelecting(!isSelecting)}>
        Select by drawing
      </button>
    </div>
    <${EChart}
      key=${isSelecting}
      option=${option}
      on=${{ click: open, brushEnd: select }}
      onReady=${allowSelecting}
      height=${380}
      label=${`Scatter of ${y} against ${x}; the table below has the same`}
    />
    <p class="muted">
      ${account(points.length, leftOut)} ${gray > 0 && `In gray: ${gray} without a ${color}. `}
      A click opens a session
      ${isSelecting ? "; draw a box to select what is in it" : ""}.
      ${selected.length > 0 && " Selected sessions have a ring."}
    </p>
    <${AsTable} points=${points} names=${[x, y, color].filter(Boolean)} />
  </section>`;
}

/** A choice among names. */
export function Choice({ label, value, names, onChange }) {
  const options = names.includes(value) ? names : [value, ...names];
  return html`<label class="choice">
    ${label}${" "}
    <select value=${value} onChange=${(event) => onChange(event.target.value)}>
      ${options.map(
        (name) =>
          html`<option key=${name} value=${name} selected=${name === value}>
            ${clipped(name, 60) || "–"}
          </option>`,
      )}
    </select>
  </label>`;
}

function Log({ scale, label, onChange }) {
  return html`<label>
    <input
      type="checkbox"
      checked=${scale.isLog}
      disabled=${!scale.isNumeric}
      aria-label=${`logarithmic axis for ${scale.name}`}
      onChange=${(event) => onChange(event.target.checked)}
    />
    ${" "}${label}
  </label>`;
}

function AsTable({ points, names }) {
  const [isOpen, setOpen] = useState(false);
  const rest = points.length - MOST_IN_TABLE;
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>The same as a table</summary>
    ${isOpen &&
    html`<div class="scroll" tabindex="0" role="region" aria-label="The points as a table">
      <table class="plain-table">
        <thead>
          <tr>
            <th scope="col">session</th>
            ${names.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${points.slice(0, MOST_IN_TABLE).map(
            ({ row }) => html`<tr key=${row.key}>
              <th scope="row"><${SessionLink} row=${row} color=${colorOf(row.key)} /></th>
              ${names.map((name) => html`<td key=${name}>${shown(valueOf(row, name), name)}</td>`)}
            </tr>`,
          )}
        </tbody>
      </table>
      ${rest > 0 && html`<p class="muted">The first ${MOST_IN_TABLE}; ${rest} more.</p>`}
    </div>`}
  </details>`;
}

function isInside(at, ranges) {
  return ranges.every(([low, high], i) => at[i] >= low && at[i] <= high);
}

function optionOf(points, scales, tint, selected, palette) {
  const [x, y] = scales;
  const looks = looksOf(points, tint);
  const dots = points.map(({ row, at }) => {
    const onScale = tint?.isNumeric && !placeOf(row, tint).problem;
    const ring = selected.has(row.key) ? { borderColor: palette.text, borderWidth: 2 } : {};
    return {
      value: [...at, onScale ? valueOf(row, tint.name) : 0],
      key: row.key,
      symbolSize: selected.has(row.key) ? 12 : 8,
      visualMap: onScale,
      symbol: looks.get(textOf(row, tint))?.symbol,
      itemStyle: onScale ? ring : { color: pointColor(row, tint, looks, palette), ...ring },
    };
  });
  const byKey = new Map(points.map(({ row }) => [row.key, row]));
  const said = ({ data }) => tooltipOf(byKey.get(data.key), [x, y, tint].filter(Boolean));
  return {
    grid: { left: 64, right: tint ? 112 : 16, top: 16, bottom: 48 },
    tooltip: tooltip(palette, said),
    xAxis: axisOf(x, points.map(({ at }) => at[0]), palette),
    yAxis: { ...axisOf(y, points.map(({ at }) => at[1]), palette), nameGap: 48 },
    brush: { xAxisIndex: 0, yAxisIndex: 0, toolbox: [], throttleType: "debounce" },
    toolbox: { show: false },
    ...legendOf(points, tint, looks, palette),
    series: [{ type: "scatter", data: dots, itemStyle: { color: palette.accent, opacity: 0.85 } }],
  };
}

/** Returns an axis that shows a scale. */
export function axisOf(scale, values, palette) {
  const { axisLabel, ...settings } = axisType(scale, values);
  const common = axis(palette, scale.name, settings);
  return { ...common, axisLabel: { ...common.axisLabel, ...axisLabel } };
}

function axisType({ isNumeric, isWhole, isLog, categories }, values) {
  if (!isNumeric) {
    const { label, ...settings } = categoryAxis(categories, 16);
    return { ...settings, axisLabel: { formatter: label } };
  }
  if (!isLog) return { type: "value", scale: true, minInterval: isWhole ? 1 : 0 };
  const [min, max] = logRange(values);
  const customValues = logTicks([min, max]);
  const axisLabel = { customValues, formatter: shownNumber };
  return { type: "log", min, max, axisTick: { customValues }, axisLabel };
}

function textOf(row, tint) {
  return tint && shown(valueOf(row, tint.name), tint.name);
}

/** Returns the colors of the first categories, those of groups by them, with a symbol for each repeat. */
function looksOf(points, tint) {
  if (!tint || tint.isNumeric) return new Map();
  const keys = new Map(
    points.map(({ row }) => [textOf(row, tint), keyOfValues([valueOf(row, tint.name)])]),
  );
  const texts = tint.categories.filter((text) => keys.has(text)).slice(0, MOST_COLORS);
  const repeats = repeatsAmong(texts.map((text) => keys.get(text)));
  return new Map(
    texts.map((text) => {
      const key = keys.get(text);
      return [text, { color: colorOf(key), symbol: SYMBOLS[repeats.get(key)] }];
    }),
  );
}

function pointColor(row, tint, looks, palette) {
  if (!tint) return colorOf(row.key);
  if (tint.isNumeric) return palette.muted;
  return looks.get(textOf(row, tint))?.color ?? palette.muted;
}

function legendOf(points, tint, looks, palette) {
  if (!tint) return {};
  const textStyle = { color: palette.text, lineHeight: 14 };
  const style = { right: 0, top: 16, textStyle, itemWidth: 12 };
  if (!tint.isNumeric) {
    const pieces = [...looks].map(([text, look], i) => ({ value: i, label: clipped(text, 12), ...look }));
    const rest = { value: MOST_COLORS, label: "other", color: palette.muted };
    const shownPieces = tint.categories.length > looks.size ? [...pieces, rest] : pieces;
    return { visualMap: { ...style, type: "piecewise", seriesIndex: [], pieces: shownPieces,
      selectedMode: false } };
  }
  const numbers = points.map(({ row }) => valueOf(row, tint.name)).filter(isNumber);
  if (!numbers.length) return {};
  const [min, max] = [Math.min(...numbers), Math.max(...numbers)];
  return {
    visualMap: {
      ...style,
      type: "continuous",
      dimension: 2,
      min,
      // A scale of no width would leave all of them gray.
      max: max > min ? max : min + 1,
      text: [`${clipped(tint.name, 14)}\n${shownNumber(max, DIGITS)}`, shownNumber(min, DIGITS)],
      inRange: { color: palette.scale },
      outOfRange: { color: palette.muted },
    },
  };
}

function tooltipOf(row, scales) {
  const lines = scales.map(({ name }) => `${clipped(name)}: ${clipped(shown(valueOf(row, name)))}`);
  return [`${row.id.slice(0, 8)} ${row.status}`, ...new Set(lines)].join("\n");
}
