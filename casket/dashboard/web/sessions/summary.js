import { useMemo } from "preact/hooks";

import { headOf } from "casket/model/arrange";
import { better, isNumber, shownNumber, ways, withMargin } from "casket/model/facts";
import { chooseWay } from "casket/model/bests";
import * as listing from "casket/model/listing";
import { scoreColumn, scoreOf, wayOf } from "casket/model/metrics";
import { cursor, data } from "casket/model/page";
import { difference, settingNames, settingsOf } from "casket/model/settings";
import { importance } from "casket/model/statistics";
import { state, update } from "casket/model/view";
import { SessionLink } from "casket/session/session_link";
import { Chips, chipsOf } from "casket/sessions/chips";
import { html } from "casket/shell/html";

const STATUSES = { running: "running", completed: "done", failed: "failed", killed: "killed" };
const MOST_PARAMS = 2;
const MOST_SETTINGS = 4;
const FIGURE_DIGITS = 4;

/** The answer: the best value, who holds it, whether that is settled, and how all sessions stand. */
export function Summary() {
  const rows = listing.rows.value;
  const goal = listing.goal.value;
  const varying = listing.varying.value;
  const best = listing.best.value;
  const settings = useMemo(
    () => (best ? settingsOf(rows, goal, varying) : []),
    [rows, goal, varying, best],
  );
  return html`<section class="summary" aria-label="Summary">
    ${best && html`<${Leader} ...${{ best, goal, settings, varying, rows }} />`}
    ${goal && better(goal) === null && html`<${Undirected} goal=${goal} />`}
    ${settings.length > 1 && settings.some(({ n }) => n > 1) &&
    html`<${Forest} settings=${settings.slice(0, MOST_SETTINGS)} varying=${varying} />`}
    <${Standing} rows=${rows} total=${data.rows.value.length} />
  </section>`;
}

function Leader({ best, goal, settings, varying, rows }) {
  return html`<div
    class="leader"
    onPointerEnter=${() => cursor.lift(best.key)}
    onPointerLeave=${() => cursor.lift("")}
  >
    <div class="answer">
      <div class="goal">
        <${Goals} label="Best" value=${goal} names=${listing.goals.value} />
        <${Way} goal=${goal} />
      </div>
      <strong class="figure" title=${String(scoreOf(best, goal))}>
        ${shownNumber(scoreOf(best, goal), FIGURE_DIGITS)}
      </strong>
    </div>
    <div class="why">
      <p class="who">
        <${SessionLink} row=${best} />
        <${Chips} chips=${chipsOf(best, varying)} isWinner />
      </p>
      <${Verdict} ...${{ settings, best, goal, varying }} />
      <${Importance} ...${{ rows, goal }} />
    </div>
  </div>`;
}

/** A choice of the metric by which sessions are judged. */
export function Goals({ label, value, names }) {
  return html`<label>
    ${label}
    <select value=${value} title=${wayOf([value])} onChange=${(event) => update({ goal: event.target.value })}>
      ${names.map((name) => html`<option value=${name}>${name}</option>`)}
    </select>
  </label>`;
}

/** Which way is better; a button where the reader has said it. */
export function Way({ goal }) {
  const isLower = better(goal) === "min";
  const text = isLower ? "↓ better" : "↑ better";
  if (!ways.value.has(goal)) return html`<span class="dim">${text}</span>`;
  const side = isLower ? "higher" : "lower";
  return html`<button type="button" class="quiet" title=${`Chosen here; click if ${side} is better`}
    onClick=${() => chooseWay(goal, side)}>${text}</button>`;
}

/** Asks which way a metric is better whose name does not say it; nothing is the best until then. */
function Undirected({ goal }) {
  return html`<div class="leader">
    <div class="answer"><${Goals} label="Goal" value=${goal} names=${listing.goals.value} /></div>
    <div class="why">
      <p class="who">
        Which <b>${goal}</b> is better?${" "}
        <button type="button" onClick=${() => chooseWay(goal, "higher")}>Higher is better</button>${" "}
        <button type="button" onClick=${() => chooseWay(goal, "lower")}>Lower is better</button>
      </p>
      <p class="dim">Its name does not say. Your choice is kept in the address of this page.</p>
    </div>
  </div>`;
}

/** Whether the best setting is significantly better than the second. */
export function Verdict({ settings, best, goal, varying }) {
  const own = settings.find(({ rows }) => rows.includes(best));
  const rest = settings.filter((setting) => setting !== own);
  const next = rest[0];
  if (!own || !next || !settingNames(varying).names.length) return null;
  const { seeds } = settingNames(varying);
  const what = seeds.length ? "seeds" : "sessions";
  const said = ({ mean, margin }) => html`<b>${withMargin(mean, margin)}</b>`;
  if (own.n < 2) {
    return html`<p><span class="verdict is-open">One session</span> of this setting: it may be luck.
      Next setting: ${nameOf(next, varying)}, ${said(next)} (${next.n} ${what}).</p>`;
  }
  const { mean, margin, n, isSettled } = difference(own, next);
  const isBetterMean = mean === 0 || mean > 0 === (better(goal) === "max");
  return html`<p>
      Mean of the ${own.n} ${what} of this setting ${said(own)}. Next setting:${" "}
      ${nameOf(next, varying)}, ${said(next)} (${next.n} ${what}).
    </p>
    <p title="Paired over the shared seeds; not corrected for many comparisons">
      <span class=${isSettled && isBetterMean ? "verdict is-settled" : "verdict is-open"}>
        ${isSettled && isBetterMean ? "Settled" : "Not settled"}
      </span>
      ${n > 1
        ? ` On the ${n} ${what} that both have, the difference is ${withMargin(mean, margin)}.`
        : " They share too few seeds to tell."}
    </p>`;
}

function nameOf({ rows: [row] }, varying) {
  const chips = chipsOf(row, settingNames(varying).names);
  return chips.map(({ short, text, isWord }) => (isWord ? text : `${short} ${text}`)).join(" · ");
}

function valuesOf({ rows: [row] }, varying) {
  return chipsOf(row, settingNames(varying).names).map(({ text }) => text).join(" · ");
}

/** The means of the best settings with their intervals, on a common axis. */
function Forest({ settings, varying }) {
  const ends = settings.flatMap(({ values, mean, margin }) => [
    ...values.values(), mean - (margin || 0), mean + (margin || 0),
  ]);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const x = (value) => 4 + (132 * (value - low)) / (high - low || 1);
  return html`<div class="forest" aria-hidden="true">
    <p class="dim">Settings by mean over seeds, 95 % interval</p>
    ${settings.map((setting, i) => {
      const { mean, margin, values } = setting;
      const spread = isNumber(margin) ? margin : 0;
      return html`<div class=${i ? "" : "is-first"}>
        <span class="cut">${valuesOf(setting, varying)}</span>
        <svg viewBox="0 0 140 14">
          <rect x=${x(mean - spread)} y="4" width=${Math.max(x(mean + spread) - x(mean - spread), 1)} height="6" rx="3" />
          ${[...values.values()].map((value) => html`<circle cx=${x(value)} cy="7" r="1.6" />`)}
          <line x1=${x(mean)} x2=${x(mean)} y1="1" y2="13" />
        </svg>
      </div>`;
    })}
  </div>`;
}

function Standing({ rows, total }) {
  const fits = rows.length === 1 ? "fits the filter" : "fit the filter";
  const counts = Object.keys(STATUSES).map((status) => ({
    status,
    count: rows.filter((row) => row.status === status).length,
  }));
  return html`<div class="standing">
    <p>
      <strong>${rows.length.toLocaleString("en")}</strong>
      ${rows.length < total && ` of ${total.toLocaleString("en")}`}
      ${total === 1 ? " session" : " sessions"}
      ${rows.length < total && ` ${fits}`}
    </p>
    ${counts.map(({ status, count }) => count > 0 && html`<button
      type="button"
      class=${`quiet status is-${status}`}
      title=${`Show only what is ${status}`}
      onClick=${() => showOnly(status)}
    ><b>${count.toLocaleString("en")}</b> ${STATUSES[status]}</button>`)}
  </div>`;
}

function showOnly(status) {
  // A condition without matches is replaced.
  const where = listing.isHeld.peek() ? "" : state.peek().where;
  update({ where: narrowed(where, status) });
}

function narrowed(where, status) {
  const condition = `status == "${status}"`;
  return where.trim() ? `(${where.trim()}) and ${condition}` : condition;
}

function Importance({ rows, goal }) {
  const name = scoreColumn(rows, goal);
  const shares = useMemo(
    () => importance(rows, name).filter(({ share }) => (share ?? 0) > 0.005).slice(0, MOST_PARAMS),
    [rows, name],
  );
  if (!shares.length) return null;
  return html`<p class="matters">
    <button
      type="button"
      class="quiet"
      title="Share of the variance that each param explains alone; more under Explore"
      onClick=${() => update({ view: "explore" })}
    >
      Param importance
    </button>
    ${shares.map(
      ({ name: param, share }) => html`<span class="share">
        ${headOf(param)}${" "}
        <meter min="0" max="1" value=${share} aria-label=${`${headOf(param)} explains`}></meter>${" "}
        ${Math.round((share ?? 0) * 100)} %
      </span>`,
    )}
  </p>`;
}
