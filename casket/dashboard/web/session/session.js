import { Curves } from "casket/curves/curves";
import { byStart } from "casket/model/arrange";
import { download } from "casket/model/files";
import {
  better, isNumber, own, restored, shown, shownDuration, shownSize, shownTime, valueOf,
} from "casket/model/facts";
import { SearchMap } from "casket/explore/heatmap";
import { Copied, inShell } from "casket/shell/copied";
import { html } from "casket/shell/html";
import * as listing from "casket/model/listing";
import { hasSearch } from "casket/model/metrics";
import { update } from "casket/model/view";
import { Answers, Changed } from "casket/session/answers";
import { Children, Parent } from "casket/session/children";
import { Notes } from "casket/session/notes";
import { Entries, Picture, TableOf, Value } from "casket/session/pictures";
import { System } from "casket/session/system";
import { Chips, chipsOf } from "casket/sessions/chips";
import { Status } from "casket/sessions/table";
import { useEffect, useMemo, useState } from "preact/hooks";
import { data, source } from "casket/model/page";

const PAGE = 50;
const MOST_METRICS = 200;
/** Significant digits of the numbers of a row: see docs/dashboard-api.md. */
const DIGITS = 9;

/** Everything about a session. */
export function SessionPage({ row }) {
  const [details, problem] = useDetails(row);
  const parts = useMemo(() => [{ key: row.key, label: row.name, rows: [row] }], [row]);
  const all = details ?? row;
  const artifacts = details?.artifacts ?? [];
  const file = inShell(data.files.value[row.file].place);
  return html`<article class="session" aria-label=${`Session ${row.id}`}>
    <${Head} row=${row} file=${file} />
    ${row.error && html`<pre class="error" role="note">${row.error}</pre>`}
    ${problem && html`<p role="alert">Only a part can be shown: ${problem}</p>`}
    <${Alerts} alerts=${details?.alerts ?? []} />
    <${Notes} key=${row.key} row=${row} />
    <div class="pair">
      <${Facts} title="Params" table=${all.params} />
      <${Metrics} row=${row} details=${details} />
    </div>
    ${row.counts.epoch + row.counts.batch > 0 &&
    html`<${Curves} parts=${parts} kind=${row.counts.epoch ? undefined : "batch"} />`}
    ${hasSearch(row) && html`<${SearchMap} row=${row} />`}
    <${Children} row=${row} />
    <${Pictures} artifacts=${artifacts} />
    <${Results} ...${{ details, row, file }} />
    <${Artifacts} title="Artifacts" artifacts=${artifacts.filter(({ captured }) => !captured)} />
    <${System} system=${details?.system} />
    <${Rows} key=${`epoch ${row.key}`} ...${{ row, kind: "epoch", title: "Epochs" }} />
    <${Rows} key=${`batch ${row.key}`} ...${{ row, kind: "batch", title: "Batches" }} />
    <div class="pair">
      <${Facts} title="Code and machine" table=${codeFirst(all.meta)} />
      <${Facts} title="Config of the model" table=${all.config} />
    </div>
    <${Artifacts} title="Captured" artifacts=${artifacts.filter(({ captured }) => captured)} />
  </article>`;
}

function useDetails(row) {
  const [found, setFound] = useState({ key: "", details: /** @type {any} */ (null), problem: "" });
  const { key } = row;
  // A running session is asked for again when more than its curves has changed.
  const version = `${row.counts.result} ${row.alerts ?? 0} ${row.status}`;
  useEffect(() => {
    let isGone = false;
    source.session(key).then(
      (details) => !isGone && setFound({ key, details, problem: "" }),
      (error) => !isGone && setFound({ key, details: null, problem: error.message }),
    );
    return () => {
      isGone = true;
    };
  }, [key, version]);
  return found.key === key ? [found.details, found.problem] : [null, ""];
}

function Head({ row, file }) {
  const duration = shownDuration(valueOf(row, "duration"));
  const command = `casket show ${row.id} ${file}`;
  const { previous, next } = neighborsOf(row);
  const open = (other) => update({ view: "session", session: other.key });
  return html`<div class="session-head">
    <div class="head-line">
      <h2 class="title">
        ${row.name}${" "}<code>${row.id.slice(0, 6)}</code>${" "}
        <small><${Status} status=${row.status} /></small>
      </h2>
      <span class="space"></span>
      <button type="button" disabled=${!previous} onClick=${() => open(previous)}>← Previous</button>
      <button type="button" disabled=${!next} onClick=${() => open(next)}>Next →</button>
      ${previous &&
      html`<button
        type="button"
        class="primary"
        onClick=${() => update({ view: "compare", selected: [previous.key, row.key] })}
      >
        Compare with previous
      </button>`}
    </div>
    <p>
      <${Chips} chips=${chipsOf(row, listing.varying.value)} />
      <span class="dim">${" "}${row.experiment} / ${row.model}</span>
    </p>
    <${Parent} row=${row} />
    <${Answers} ...${{ row, previous }} />
    <${Changed} ...${{ row, previous }} />
    <p>
      <${Copied} text=${row.id} label="Copy the id" /> <${Copied} text=${command}
        label="Copy the command" />
    </p>
    <dl class="facts-line">
      <div><dt>started</dt><dd>${shownTime(row.started)} UTC</dd></div>
      ${row.ended && html`<div><dt>ended</dt><dd>${shownTime(row.ended)} UTC</dd></div>`}
      <div><dt>${row.ended ? "took" : "runs for"}</dt><dd>${duration}</dd></div>
      ${!row.ended &&
      html`<div>
        <dt>last record</dt>
        <dd>${shownDuration(valueOf(row, "age"))} ago</dd>
      </div>`}
      <div><dt>epochs</dt><dd>${row.epochs}</dd></div>
      ${row.counts.batch > 0 && html`<div><dt>batches</dt><dd>${row.counts.batch}</dd></div>`}
      <${Commit} meta=${row.meta} />
    </dl>
  </div>`;
}

/** Returns the previous and the next session of the same experiment or parent. */
function neighborsOf(row) {
  const parent = data.parentOf(row);
  const among = parent ? data.childrenOf(parent.key) : data.rows.value;
  const own = among.filter(({ file, experiment }) =>
    file === row.file && experiment === row.experiment,
  );
  const at = own.sort(byStart).findIndex(({ key }) => key === row.key);
  return { previous: own[at - 1], next: own[at + 1] };
}

function Commit({ meta }) {
  if (!meta.commit) return null;
  return html`<div>
    <dt>code</dt>
    <dd title=${meta.commit}>
      ${shown(meta.commit).slice(0, 10)}
      ${meta.dirty === true && html` <span class="dirty">with changes not committed</span>`}
    </dd>
  </div>`;
}

function Facts({ title, table }) {
  const entries = Object.entries(table ?? {});
  if (!entries.length) return null;
  return html`<section class="card" aria-label=${title}>
    <h2>${title} <small class="muted">${entries.length}</small></h2>
    <${Entries} entries=${entries} />
  </section>`;
}

function Metrics({ row, details }) {
  const [most, setMost] = useState(MOST_METRICS);
  const isNumeric = (name) => typeof restored(row.last[name]) === "number";
  const names = Object.keys(row.last).filter(isNumeric);
  if (!names.length) return null;
  const columns = ["metric", "last", "best"];
  const rows = names.map((name) => {
    const best = exact(row.best[name], details?.best[name]);
    const way = { min: " (lowest)", max: " (highest)" }[better(name)] ?? "";
    return [name, exact(row.last[name], details?.last[name]), isNumber(best) ? `${best}${way}` : ""];
  });
  return html`<section class="card" aria-label="Metrics">
    <h2>Metrics <small class="muted">${names.length}</small></h2>
    <${TableOf} columns=${columns} rows=${rows.slice(0, most)} name="Metrics" />
    ${rows.length > most &&
    html`<button type="button" onClick=${() => setMost(most * 4)}>
      and ${rows.length - most} more
    </button>`}
  </section>`;
}

/** Returns a value of a row with all its digits, unless it has changed since those were read. */
function exact(value, whole) {
  // Whole numbers that a browser would round come as text.
  const isSame = Number(Number(whole).toPrecision(DIGITS)) === Number(value) || whole === value;
  return restored(isSame ? whole : value);
}

function Alerts({ alerts }) {
  if (!alerts.length) return null;
  return html`<section class="card" aria-label="Alerts">
    <h2>Alerts <small class="muted">${alerts.length}</small></h2>
    <ul class="alerts">
      ${alerts.map(
        ({ title, text, level, time }, i) => html`<li key=${i}>
          <strong>${level}: ${title}</strong>${" "}
          ${text}${" "}<span class="muted">${shownTime(time)} UTC</span>
        </li>`,
      )}
    </ul>
  </section>`;
}

function Pictures({ artifacts }) {
  const images = artifacts.filter(({ image }) => image);
  if (!images.length) return null;
  return html`<section class="card" aria-label="Pictures">
    <h2>Pictures</h2>
    <div class="pictures">
      ${images.map(
        ({ name, image, step }) => html`<figure key=${name}>
          <${Picture} src=${image} name=${name} />
          <figcaption>${name}${step === undefined ? "" : `, step ${step}`}</figcaption>
        </figure>`,
      )}
    </div>
  </section>`;
}

function Results({ details, row, file }) {
  if (!row.counts.result) return null;
  if (!details) return html`<p class="muted">Results are being read…</p>`;
  const groups = new Map();
  for (const { index, result, time } of details.results) {
    const title = index === null ? "without an index" : shown(index);
    if (!groups.has(title)) groups.set(title, []);
    groups.get(title).push({ result, time });
  }
  const missing = row.counts.result - details.results.length;
  return html`<section class="card" aria-label="Results">
    <h2>Results <small class="muted">${row.counts.result}</small></h2>
    ${[...groups].map(
      ([title, results]) => html`<${ResultGroup} key=${title} title=${title} results=${results}
        isOpen=${groups.size <= 4 && results.length <= 3} />`,
    )}
    ${missing > 0 &&
    html`<p class="muted">
      The first ${details.results.length}; ${missing} more: ${" "}
      <code>casket export ${file} --table results</code> has all.
    </p>`}
  </section>`;
}

function ResultGroup({ title, results, isOpen: isOpenFirst }) {
  const [isOpen, setOpen] = useState(isOpenFirst);
  const [most, setMost] = useState(PAGE);
  const rest = results.length - most;
  return html`<details class="result" open=${isOpen}
    onToggle=${(event) => setOpen(event.target.open)}>
    <summary>
      ${title}${" "}<small class="muted">${results.length > 1 ? results.length : ""}</small>
    </summary>
    ${isOpen &&
    results.slice(0, most).map(
      ({ result, time }, i) => html`<div class="one-result" key=${i}>
        ${results.length > 1 &&
        html`<p class="muted">${i + 1}${time ? `, ${shownTime(time)} UTC` : ""}</p>`}
        <${Value} value=${result} />
      </div>`,
    )}
    ${isOpen && rest > 0 &&
    html`<button type="button" onClick=${() => setMost(most + PAGE)}>${rest} more</button>`}
  </details>`;
}

function Artifacts({ title, artifacts }) {
  if (!artifacts.length) return null;
  const hasSteps = artifacts.some(({ step }) => step !== undefined);
  return html`<section class="card" aria-label=${title}>
    <h2>${title} <small class="muted">${artifacts.length}</small></h2>
    <div class="scroll" tabindex="0" role="region" aria-label=${`${title}: table`}>
      <table class="plain-table">
        <thead>
          <tr><th scope="col">name</th><th scope="col">size</th><th scope="col">type</th>
            ${hasSteps && html`<th scope="col">step</th>`}</tr>
        </thead>
        <tbody>
          ${artifacts.map(
            ({ name, href, image, size, media_type: type, path, step }) => html`<tr key=${name}>
              <th scope="row" title=${path}>
                ${(href ?? image)
                  ? html`<a href=${href ?? image} download=${name}>${name}</a>`
                  : html`${name} <span class="muted">(not inside this report)</span>`}
              </th>
              <td class="number">${shownSize(size)}</td>
              <td>${type}</td>
              ${hasSteps && html`<td class="number">${step}</td>`}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}

function Rows({ row, kind, title }) {
  const count = row.counts[kind];
  const [isOpen, setOpen] = useState(false);
  const [from, setFrom] = useState(0);
  const [found, setFound] = useState({ rows: [], problem: "" });
  const isLastPage = from + PAGE >= count;
  useEffect(() => {
    if (!isOpen || !count) return undefined;
    let isGone = false;
    source.rows(row.key, kind, from, PAGE).then(
      ({ rows }) => !isGone && setFound({ rows, problem: "" }),
      (error) => !isGone && setFound({ rows: [], problem: error.message }),
    );
    return () => {
      isGone = true;
    };
  }, [row.key, kind, from, isOpen, isLastPage && count]);
  if (!count) return null;
  const save = async () => {
    try {
      download(`${row.id}-${kind}.csv`, await source.csvOfRows(row.key, kind));
    } catch (error) {
      setFound({ ...found, problem: error.message });
    }
  };
  const names = [...new Set(found.rows.flatMap(Object.keys))];
  const cells = found.rows.map((each) => names.map((name) => own(each, name)));
  const toggle = (event) => setOpen(event.target.open);
  return html`<details class="card" open=${isOpen} onToggle=${toggle}>
    <summary><h2>${title} <small class="muted">${count}</small></h2></summary>
    ${found.problem && html`<p role="alert">${found.problem}</p>`}
    ${isOpen &&
    html`<${TableOf} columns=${names} rows=${cells} name=${title} />
      <div class="bar">
        <button type="button" disabled=${from === 0} onClick=${() => setFrom(from - PAGE)}>
          Earlier
        </button>
        <span>
          ${from + 1} to ${Math.min(from + PAGE, count)} of ${count}
        </span>
        <button type="button" disabled=${isLastPage} onClick=${() => setFrom(from + PAGE)}>
          Later
        </button>
        <button type="button" onClick=${save}>Download all as CSV</button>
      </div>`}
  </details>`;
}

function codeFirst(meta = {}) {
  const first = ["commit", "dirty", "branch", "host", "command_line"];
  const known = first.filter((name) => Object.hasOwn(meta, name));
  const rest = Object.keys(meta).filter((name) => !first.includes(name));
  return Object.fromEntries([...known, ...rest].map((name) => [name, meta[name]]));
}
