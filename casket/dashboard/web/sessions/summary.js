import { useMemo } from "preact/hooks";

import { headOf, settings } from "casket/model/arrange";
import { better, isNumber, shownNumber } from "casket/model/facts";
import * as listing from "casket/model/listing";
import { bestRow, isBetter } from "casket/model/metrics";
import { cursor, data } from "casket/model/page";
import { importance } from "casket/model/statistics";
import { state, update } from "casket/model/view";
import { SessionLink } from "casket/session/session_link";
import { Status } from "casket/sessions/table";
import { html } from "casket/shell/html";

const STATUSES = ["running", "completed", "failed", "killed"];
const MOST_PARAMS = 2;
const FEW = 12;

/** How the sessions that fit the filter stand, the best of them so far and who holds it. */
export function Summary() {
  const rows = listing.rows.value;
  const goal = listing.goal.value;
  const varying = listing.varying.value;
  const total = data.rows.value.length;
  const best = useMemo(() => bestRow(rows, goal), [rows, goal]);
  const counts = STATUSES.map((status) => ({
    status,
    count: rows.filter((row) => row.status === status).length,
  }));
  return html`<section class="summary" aria-label="Summary">
    <p class="standing">
      <strong>${rows.length.toLocaleString("en")}</strong>
      ${rows.length < total && ` of ${total.toLocaleString("en")}`}
      ${total === 1 ? " session" : " sessions"}
      ${rows.length < total && (rows.length === 1 ? " fits the filter" : " fit the filter")}
      ${counts.map(({ status, count }) => count > 0 && html`<button
        type="button"
        class="quiet"
        title=${`Show only what is ${status}`}
        onClick=${() => showOnly(status)}
      ><b>${count}</b> <${Status} status=${status} /></button>`)}
    </p>
    ${best &&
    html`<div
      class="leader"
      onPointerEnter=${() => cursor.lift(best.key)}
      onPointerLeave=${() => cursor.lift("")}
    >
      <label>
        Best
        <select value=${goal} onChange=${(event) => update({ goal: event.target.value })}>
          ${listing.goals.value.map((name) => html`<option value=${name}>${name}</option>`)}
        </select>
      </label>
      <strong class="figure">${shownNumber(best.best[goal])}</strong>
      <${Progress} ...${{ rows, goal }} />
      <span title=${settings(best, varying)}>
        by${" "}<${SessionLink} row=${best} />
        <span class="dim">${" "}${settings(best, varying)}</span>
      </span>
    </div>`}
    ${best && html`<${Importance} ...${{ rows, goal }} />`}
  </section>`;
}

function showOnly(status) {
  // A condition that fits nothing yet is not one to add to.
  const where = listing.isHeld.peek() ? "" : state.peek().where;
  update({ where: narrowed(where, status) });
}

function narrowed(where, status) {
  const condition = `status == "${status}"`;
  return where.trim() ? `(${where.trim()}) and ${condition}` : condition;
}

/** How the best value fell or rose from session to session. */
function Progress({ rows, goal }) {
  const steps = useMemo(() => bestSoFar(rows, goal), [rows, goal]);
  if (steps.length < 2) return null;
  const low = Math.min(...steps);
  const high = Math.max(...steps);
  const x = (i) => 1 + (i * 78) / (steps.length - 1);
  const y = (value) => 3 + ((high - value) / (high - low || 1)) * 16;
  let path = `M1 ${y(steps[0]).toFixed(1)}`;
  steps.forEach((value, i) => {
    if (i && value !== steps[i - 1]) path += `H${x(i).toFixed(1)}V${y(value).toFixed(1)}`;
  });
  const text = `best so far over ${steps.length} sessions, from ${shownNumber(steps[0])}`;
  return html`<svg class="progress" viewBox="0 0 80 22" role="img" aria-label=${text}>
    <title>${text}</title>
    <path d=${`${path}H79`} />
  </svg>`;
}

function Importance({ rows, goal }) {
  const name = `best.${goal}`;
  const known = judged(rows);
  const keys = known.map(({ key }) => key).join();
  const found = useMemo(
    () => importance(known, name).filter(({ share }) => (share ?? 0) > 0.005).slice(0, MOST_PARAMS),
    [keys, name],
  );
  if (!found.length) return null;
  return html`<div class="matters">
    <button
      type="button"
      class="quiet"
      title="Share of the variance that each param explains alone; more under Explore"
      onClick=${() => update({ view: "explore" })}
    >
      What matters
    </button>
    ${found.map(
      ({ name: param, share }) => html`<span class="share">
        ${headOf(param)}
        <meter min="0" max="1" value=${share} aria-label=${`${headOf(param)} explains`}></meter>
        ${Math.round((share ?? 0) * 100)} %
      </span>`,
    )}
  </div>`;
}

/** A session that still runs, or broke off, says little about its params. */
function judged(rows) {
  const completed = rows.filter((row) => row.status === "completed");
  return completed.length < FEW ? rows : completed;
}

function bestSoFar(rows, goal) {
  const mode = better(goal);
  const values = rows.filter((row) => isNumber(row.best?.[goal]));
  values.sort((a, b) => (a.started < b.started ? -1 : 1));
  let best;
  return values.map((row) => {
    const value = row.best[goal];
    if (best === undefined || isBetter(value, best, mode)) best = value;
    return best;
  });
}
