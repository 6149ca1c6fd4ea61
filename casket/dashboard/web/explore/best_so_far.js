import { EChart, axis, tooltip } from "casket/explore/echart";
import { shown, shownTime } from "casket/model/facts";
import { html } from "casket/shell/html";
import { account, placed, scaleOf } from "casket/model/points";
import { SessionLink } from "casket/session/session_link";
import { useCallback, useMemo } from "preact/hooks";
import { update } from "casket/model/view";

/** Each session's score in the order they began, and the best until then. */
export function BestSoFar({ rows, metric, mode }) {
  const { points, leftOut } = useMemo(() => {
    const ordered = [...rows].sort((a, b) => (a.started < b.started ? -1 : 1));
    const found = placed(ordered, [scaleOf(ordered, metric, false)]);
    found.points.forEach((point, i) => Object.assign(point, { number: i + 1 }));
    return found;
  }, [rows, metric]);
  const records = useMemo(() => improvements(points, mode), [points, mode]);
  const option = useCallback(
    (palette) => optionOf(points, records, metric, palette),
    [points, records, metric],
  );
  const open = ({ data }) => data?.key && update({ view: "session", session: data.key });
  const last = records.at(-1);
  return html`<section class="chart-card" aria-labelledby="best-title">
    <h2 id="best-title">Best ${metric.replace(/^best\./, "")} so far</h2>
    ${last &&
    html`<p>
      ${mode === "min" ? "Lowest" : "Highest"}: <strong>${shown(last.at[0])}</strong>, session${" "}
      <${SessionLink} row=${last.row} />,
      the ${ordinal(last.number)} of ${points.length}.
    </p>`}
    <${EChart} option=${option} on=${{ click: open }} height=${260}
      label=${`The best ${metric} so far, session by session; the list below has the same`} />
    <p class="muted">In the order they began. ${account(points.length, leftOut)}</p>
    <details>
      <summary>All ${records.length} as a list</summary>
      <ol>
        ${records.map(
          ({ row, at }) => html`<li key=${row.key}>
            <${SessionLink} row=${row} />: ${shown(at[0])}, begun${" "}
            ${shownTime(row.started)} UTC
          </li>`,
        )}
      </ol>
    </details>
  </section>`;
}

/** Returns the points that are better than all before. */
export function improvements(points, mode) {
  const sign = mode === "min" ? -1 : 1;
  let best = -Infinity;
  return points.filter(({ at }) => {
    if (at[0] * sign <= best) return false;
    best = at[0] * sign;
    return true;
  });
}

function ordinal(number) {
  const tens = number % 100;
  const ending = tens > 10 && tens < 14 ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

function optionOf(points, records, metric, palette) {
  const dot = (point) => ({ value: [point.number, point.at[0]], key: point.row.key });
  const line = records.map(dot);
  if (line.length) line.push({ ...line.at(-1), value: [points.length, line.at(-1).value[1]] });
  const byKey = new Map(points.map(({ row }) => [row.key, row]));
  const said = ({ data }) =>
    `${byKey.get(data.key).id.slice(0, 8)}, session ${data.value[0]}\n${shown(data.value[1])}`;
  return {
    grid: { left: 64, right: 16, top: 16, bottom: 48 },
    tooltip: tooltip(palette, said),
    xAxis: axis(palette, "session", { type: "value", min: 1, max: "dataMax", minInterval: 1 }),
    yAxis: axis(palette, metric, { type: "value", scale: true, nameGap: 48 }),
    series: [
      { type: "scatter", data: points.map(dot), symbolSize: 6,
        itemStyle: { color: palette.muted, opacity: 0.7 } },
      { type: "line", data: line, step: "end", symbolSize: 8, lineStyle: { width: 2 },
        itemStyle: { color: palette.accent } },
    ],
  };
}
