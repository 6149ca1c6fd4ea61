import { headOf } from "casket/model/arrange";
import { shownNumber } from "casket/model/facts";
import { html } from "casket/shell/html";
import { importance } from "casket/model/statistics";
import { useMemo, useState } from "preact/hooks";

const FIRST = 12;

/** How much of a metric's variance each param explains alone. */
export function Importance({ rows, metric, chosen, onChoose }) {
  const [isWhole, setWhole] = useState(false);
  const found = useMemo(() => importance(rows, metric), [rows, metric]);
  const shares = found.filter(({ share }) => share !== null);
  const unknown = found.length - shares.length;
  const visible = isWhole ? shares : shares.slice(0, FIRST);
  return html`<section class="chart-card" aria-labelledby="importance-title">
    <h2 id="importance-title">Param importance for ${headOf(metric)}</h2>
    ${shares.length === 0 && html`<p>${emptyBecause(found, metric)}</p>`}
    <ol class="importance">
      ${visible.map(
        (param) =>
          html`<${Param} key=${param.name} ...${param} isChosen=${param.name === chosen}
            onChoose=${onChoose} />`,
      )}
    </ol>
    ${shares.length > FIRST &&
    html`<button type="button" onClick=${() => setWhole(!isWhole)}>
      ${isWhole ? "Fewer" : `${shares.length - FIRST} more`}
    </button>`}
    <p class="muted">
      ${found.length > 0 && `From ${found[0].n} completed sessions. `}
      ${unknown > 0 && `${unknown} params cannot be judged: ${reasons(found)}. `}
    </p>
    <details>
      <summary>How this is counted, and what it cannot tell</summary>
      <p>
        Omega squared of a one-way analysis of variance: the share of ${metric}'s variance between
        sessions that lies between unlike values of one param, less what chance would put there.
        Numeric params with many values are cut into groups of equal size. ↗ and ↘ show the rank
        correlation (Spearman): whether a higher value goes with a higher ${metric}.
      </p>
      <p>
        It looks at one param at a time, so what only several do together is not seen, and params
        that were changed together share what either does. It holds for the values that were
        tried, and with few sessions it is rough. It is no proof of a cause.
      </p>
    </details>
  </section>`;
}

function Param({ name, share, correlation, values, isChosen, onChoose }) {
  const percent = share < 0.005 ? "0 %" : `${Math.round(share * 100)} %`;
  return html`<li>
    <button type="button" aria-pressed=${isChosen} onClick=${() => onChoose(name)}
      title=${`Put ${name} on the axis of the scatter; ${values} values`}>
      <span class="name">${name.replace(/^params\./, "")}</span>
      <span class="share">${percent}</span>
      <span class="track" aria-hidden="true">
        <span class="fill" style=${{ width: `${share * 100}%` }} />
      </span>
      <span class="direction">${direction(correlation)}</span>
    </button>
  </li>`;
}

function direction(correlation) {
  if (correlation === null) return "by value";
  if (Math.abs(correlation) < 0.1) return "→ no trend";
  return `${correlation > 0 ? "↗" : "↘"} ${shownNumber(Number(correlation.toFixed(2)))}`;
}

function reasons(found) {
  return [...new Set(found.map(({ problem }) => problem).filter(Boolean))].join("; ");
}

function emptyBecause(found, metric) {
  if (!found.length) return `No param differs between completed sessions that have a number ${metric}.`;
  return `Not enough to tell: ${reasons(found)}.`;
}
