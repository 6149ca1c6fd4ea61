import { useEffect, useMemo } from "preact/hooks";

import { better, isNumber, restored, shownDuration, shownNumber, valueOf, varyingNames } from "casket/model/facts";
import { data, store } from "casket/model/page";
import { silenceOf } from "casket/model/sweeps";
import { SessionLink } from "casket/session/session_link";
import { Chips, chipsOf } from "casket/sessions/chips";
import { SMALL, Sparkline } from "casket/sessions/sparkline";
import { Copied, inShell } from "casket/shell/copied";
import { html } from "casket/shell/html";

const FIGURE_DIGITS = 4;

/** What each worker runs, compared with the best trial at the same epoch. */
export function Workers({ sweep, trials, done, best, goal }) {
  const rows = sweep.workers.map((worker) => ({ worker, row: data.row(`${sweep.file}.${worker.session}`) }));
  const running = rows.filter(({ row }) => row?.status === "running");
  const arrivals = store.arrivals.value;
  useEffect(() => {
    store.want(SMALL, [goal], [best, ...running.map(({ row }) => row)].filter(Boolean));
  }, [goal, best?.key, sweep, data.rows.value, arrivals]);
  const varying = useMemo(() => varyingNames(trials), [trials.length]);
  const read = store.reader(SMALL);
  const given = { trials, varying, goal, epochs: usualEpochs(done), bestCurve: best && read(best.key, goal) };
  return html`<section class="chart-card" aria-labelledby="workers-title">
    <h2 id="workers-title">
      Workers <small>${running.length} running · dashed: the best trial, compared at the same epoch</small>
    </h2>
    ${running.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="What the workers run">
      <table class="sweep-table">
        <thead>
          <tr>
            <th scope="col">Worker</th><th scope="col">Trial</th><th scope="col">Params</th>
            <th scope="col">Epoch</th><th scope="col">${goal}</th>
            <th scope="col" class="number">Now</th>
            <th scope="col" class="number">Against the best</th>
            <th scope="col" class="number">Left</th>
          </tr>
        </thead>
        <tbody>
          ${running.map(({ worker, row }) => html`<${Worker} key=${row.key}
            ...${{ worker, row, ...given, curve: read(row.key, goal) }} />`)}
        </tbody>
      </table>
    </div>`}
    <${Another} sweep=${sweep} trials=${trials} />
  </section>`;
}

function Worker({ worker, row, trials, varying, goal, epochs, curve, bestCurve }) {
  const silence = silenceOf(row, Date.now());
  const now = restored(row.last[goal]);
  return html`<tr class=${silence ? "is-stalled" : ""}>
    <th scope="row"><span class="status is-running"><svg viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="4" /></svg></span>${worker.host} : ${worker.pid}</th>
    <td><${SessionLink} row=${row} /> <small>trial ${trials.indexOf(row) + 1}</small></td>
    <td><${Chips} chips=${chipsOf(row, varying)} /></td>
    ${silence
      ? html`<td colspan="5">
          <b>Stalled?</b> Logs about every ${shownDuration(silence.usual)}, silent for
          ${" "}${shownDuration(silence.silent)}.
        </td>`
      : html`<td><${Epochs} count=${row.epochs} most=${epochs} /></td>
          <td>${curve && html`<${Sparkline} curve=${curve} other=${bestCurve} mode=${better(goal)} />`}</td>
          <td class="number">${isNumber(now) && shownNumber(now, FIGURE_DIGITS)}</td>
          <td class="number"><${Against} ...${{ curve, bestCurve, goal }} /></td>
          <td class="number dim">${leftOf(row, epochs)}</td>`}
  </tr>`;
}

function Epochs({ count, most }) {
  if (!most) return html`${count}`;
  return html`<span class="track" aria-hidden="true">
      <span class="fill" style=${{ width: `${Math.min(100, (100 * count) / most)}%` }} />
    </span>${" "}${count} of ${most}`;
}

/** How far the last value is from that of the best trial at the same epoch. */
function Against({ curve, bestCurve, goal }) {
  if (!curve?.xs.length || !bestCurve?.xs.length) return null;
  const at = curve.xs[curve.xs.length - 1];
  const index = bestCurve.xs.findLastIndex((x) => x <= at);
  const change = curve.ys[curve.ys.length - 1] - bestCurve.ys[index];
  if (!isNumber(change)) return null;
  if (change === 0) return html`equal`;
  const isBetter = change > 0 === (better(goal) === "max");
  return html`<span class=${isBetter ? "is-better" : "is-worse"}>
    ${change > 0 ? "+" : "−"}${shownNumber(Math.abs(change), 2)} ${isBetter ? "better" : "worse"}
  </span>`;
}

/** Returns the number of epochs of most completed trials, which is that of others, too. */
function usualEpochs(done) {
  const counts = new Map();
  for (const { epochs } of done) counts.set(epochs, (counts.get(epochs) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 0;
}

function leftOf(row, epochs) {
  if (!row.epochs || row.epochs >= epochs) return "";
  return shownDuration(((epochs - row.epochs) * valueOf(row, "duration")) / row.epochs);
}

/** The line that starts another worker: the command of the latest trial. */
function Another({ sweep, trials }) {
  const line = trials.at(-1)?.meta.command_line;
  if (!Array.isArray(line) || sweep.size === sweep.done) return null;
  return html`<div class="another">
    Add a worker: <${Copied} text=${line.map(inShell).join(" ")} label="Copy the line that adds a worker" />
  </div>`;
}
