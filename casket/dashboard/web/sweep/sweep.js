import { useEffect, useMemo, useReducer } from "preact/hooks";

import { Importance } from "casket/explore/importance";
import { better, isNumber, shown, shownDuration, shownNumber, valueOf, varyingNames } from "casket/model/facts";
import { isBetter, scoreColumn, scoreOf } from "casket/model/metrics";
import { data } from "casket/model/page";
import { settingsOf } from "casket/model/settings";
import { rankedParams } from "casket/model/statistics";
import { goalOf, problem, standing, sweepOf, sweeps, trialsOf } from "casket/model/sweeps";
import { chooseExplore, state, update } from "casket/model/view";
import { SessionLink } from "casket/session/session_link";
import { Chips, chipsOf } from "casket/sessions/chips";
import { Goals, Verdict, Way } from "casket/sessions/summary";
import { html } from "casket/shell/html";
import { ParamChart, Progress } from "casket/sweep/charts";
import { Workers } from "casket/sweep/workers";

const MOST_PARAMS = 3;
const MOST_BEST = 8;
const MOST_COLUMNS = 3;
const FIGURE_DIGITS = 4;
const CLOCK = 10_000;

/** A sweep: how far it is, what runs, its best trial so far, and which params matter. */
export function SweepPage() {
  useClock();
  const sweep = sweepOf(sweeps.value, state.value.sweep);
  const trials = useMemo(() => (sweep ? trialsOf(sweep, data.rows.value) : []), [sweep, data.rows.value]);
  if (!sweep) return html`<${NoSweep} />`;
  const { goal, names } = goalOf(sweep, trials, state.value.goal);
  const { done, best } = standing(trials, goal);
  return html`<div class="sweep-page">
    <${Answer} ...${{ sweep, trials, done, best, goal, names }} />
    <section class="sweep" aria-label="Sweep">
      ${goal ? html`<${Charts} key=${sweep.key} ...${{ sweep, trials, done, best, goal }} />` : html`<p class="empty">
        No trial has logged a number whose name says which way is better.
      </p>`}
    </section>
  </div>`;
}

/** Times pass, also while nothing is logged. */
function useClock() {
  const [, tick] = useReducer((turn) => turn + 1, 0);
  useEffect(() => {
    const timer = setInterval(tick, CLOCK);
    return () => clearInterval(timer);
  }, []);
}

function NoSweep() {
  if (problem.value) return html`<div class="state" role="alert"><p>${problem.value}</p></div>`;
  return html`<div class="state" role="status">
    <h2>No sweep yet</h2>
    <p>Each set of params of a sweep runs once, in as many processes as you start:</p>
    <pre tabindex="0">${'for session in model.sweep({"lr": [0.1, 0.01], "seed": range(3)}):\n    with session:\n        train(**session.params)'}</pre>
  </div>`;
}

function Charts({ sweep, trials, done, best, goal }) {
  const column = scoreColumn(trials, goal);
  // Of completed trials nothing changes, so that the charts stand still until the next.
  const kept = useMemo(() => done, [done.length, sweep.key]);
  const params = useMemo(() => rankedParams(kept, column), [kept, column]);
  const explore = (name) => {
    chooseExplore({ metric: column, x: name });
    update({ view: "explore" });
  };
  return html`
    <div class="sweep-pair">
      <${Progress} ...${{ trials, size: sweep.size, goal, column }} />
      <${Importance} rows=${kept} metric=${column} chosen="" onChoose=${explore} />
    </div>
    <${Workers} ...${{ sweep, trials, done, best, goal }} />
    ${params.length > 0 &&
    html`<div class="sweep-params">
      ${params.slice(0, MOST_PARAMS).map(
        (name) => html`<${ParamChart} key=${name} ...${{ rows: kept, name, goal, column, best }} />`,
      )}
    </div>`}
    <${BestTrials} ...${{ trials, done, goal }} />
  `;
}

function Answer({ sweep, trials, done, best, goal, names }) {
  const varying = useMemo(() => varyingNames(trials), [trials.length]);
  const settings = useMemo(
    () => (best ? settingsOf(done, goal, varying) : []),
    [done.length, goal, varying, best],
  );
  return html`<section class="summary" aria-label="Summary">
    <div class="leader">
      ${best && html`<div class="answer">
        <div class="goal">
          <${Goals} label="Best" value=${goal} names=${names} />
          <${Way} goal=${goal} />
        </div>
        <strong class="figure" title=${String(scoreOf(best, goal))}>
          ${shownNumber(scoreOf(best, goal), FIGURE_DIGITS)}
        </strong>
      </div>`}
      <div class="why">
        <${SweepChoice} sweep=${sweep} />
        ${best && html`<p class="who">
            <${SessionLink} row=${best} />
            <small class="dim">trial ${trials.indexOf(best) + 1}${" "}</small>
            <${Chips} chips=${chipsOf(best, varying)} isWinner />
          </p>
          <${Verdict} ...${{ settings, best, goal, varying }} />
          <${Since} ...${{ trials, done, best, goal }} />`}
        ${!best && html`<p>The best is shown when the first trial is completed.</p>`}
      </div>
    </div>
    <${Progressing} ...${{ sweep, trials, done }} />
  </section>`;
}

/** A choice among several sweeps. */
function SweepChoice({ sweep }) {
  if (sweeps.value.length < 2) return null;
  return html`<label class="choice">
    Sweep${" "}
    <select value=${sweep.key} onChange=${(event) => update({ sweep: event.target.value })}>
      ${sweeps.value.map(
        ({ key, experiment, model, id }) =>
          html`<option value=${key}>${experiment} / ${model}, ${id.slice(0, 6)}</option>`,
      )}
    </select>
  </label>`;
}

/** What happened since the best trial: how many were no better, and which running one is. */
function Since({ trials, done, best, goal }) {
  const later = done.slice(done.indexOf(best) + 1).length;
  const mode = better(goal);
  const ahead = trials.find(
    (row) =>
      row.status === "running" && isNumber(scoreOf(row, goal)) &&
      isBetter(scoreOf(row, goal), scoreOf(best, goal), mode),
  );
  return html`<p>
    ${later > 0 && `No better one in the last ${later} ${later === 1 ? "trial" : "trials"}. `}
    ${ahead && html`<b>${ahead.name}</b>, at epoch ${ahead.epochs}, is already
      ${mode === "min" ? " lower" : " higher"}: <b>${shownNumber(scoreOf(ahead, goal), FIGURE_DIGITS)}</b>.`}
  </p>`;
}

/** How far the sweep is, and when it will end. */
function Progressing({ sweep, trials, done }) {
  const { size, running, failed, per_hour: rate, expected_end: end } = sweep;
  const ahead = (size ?? 0) - sweep.done - running.length - failed;
  const left = end ? (Date.parse(end) - Date.now()) / 1000 : NaN;
  const workers = new Set(sweep.workers.map(({ host, pid }) => `${host} ${pid}`)).size;
  const durations = done.map(({ duration }) => duration).filter(isNumber).sort((a, b) => a - b);
  const parts = [
    running.length > 0 && `${running.length} running`,
    failed > 0 && `${failed} failed`,
    ahead > 0 && `${ahead} to go`,
  ];
  const share = (count) => `${size ? (100 * count) / size : 0}%`;
  return html`<div class="progress">
    <p class="progress-count">
      <b>${sweep.done}${size !== null && ` of ${size}`}</b> done
      <span class="dim">${parts.filter(Boolean).map((part) => ` · ${part}`)}</span>
    </p>
    ${size !== null &&
    html`<div class="progress-bar" role="progressbar" aria-label="Sets that are done"
      aria-valuenow=${sweep.done} aria-valuemin="0" aria-valuemax=${size}>
      <i style=${{ width: share(sweep.done) }}></i><u style=${{ width: share(running.length) }}></u>
    </div>`}
    <p class="dim">
      Began ${shownDuration((Date.now() - Date.parse(trials[0]?.started ?? "")) / 1000)} ago
      ${isNumber(left) && html` · about <b>${shownDuration(Math.max(left, 0))}</b> left`}
    </p>
    <p class="dim">
      ${workers} ${workers === 1 ? "worker" : "workers"}
      ${rate > 0 && ` · ${shownNumber(rate, rate >= 100 ? 3 : 2)} an hour`}
      ${durations.length > 0 && ` · median trial ${shownDuration(durations[durations.length >> 1])}`}
    </p>
  </div>`;
}

function BestTrials({ trials, done, goal }) {
  const sign = better(goal) === "min" ? 1 : -1;
  const ranked = useMemo(
    () =>
      done
        .filter((row) => isNumber(scoreOf(row, goal)))
        .sort((a, b) => sign * (scoreOf(a, goal) - scoreOf(b, goal))),
    [done.length, goal],
  );
  const varying = useMemo(() => varyingNames(trials), [trials.length]);
  if (!ranked.length) return null;
  const others = Object.keys(ranked[0].best).filter((name) => name !== goal).slice(0, MOST_COLUMNS - 1);
  const first = ranked.slice(0, MOST_BEST);
  return html`<section class="chart-card" aria-labelledby="trials-title">
    <h2 id="trials-title">Best trials <small>${first.length} of ${ranked.length}</small></h2>
    <div class="scroll" tabindex="0" role="region" aria-label="The best trials as a table">
      <table class="sweep-table">
        <thead>
          <tr>
            <th scope="col"><span class="hidden-word">rank</span></th>
            <th scope="col">Session</th>
            ${[goal, ...others].map((name) => html`<th scope="col" class="number">${name}, best</th>`)}
            <th scope="col">Params</th>
          </tr>
        </thead>
        <tbody>
          ${first.map((row, i) => html`<tr key=${row.key} class=${i ? "" : "is-first"}>
            <td class="dim">${i + 1}</td>
            <th scope="row">
              <${SessionLink} row=${row} /> <small>trial ${trials.indexOf(row) + 1}</small>
            </th>
            <td class="number"><b>${shownNumber(scoreOf(row, goal), FIGURE_DIGITS)}</b></td>
            ${others.map((name) => html`<td class="number">
              ${shown(valueOf(row, `best.${name}`), name, FIGURE_DIGITS)}
            </td>`)}
            <td><${Chips} chips=${chipsOf(row, varying)} /></td>
          </tr>`)}
        </tbody>
      </table>
    </div>
  </section>`;
}
