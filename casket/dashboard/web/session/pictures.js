// Logged values, shown by their type: an image, an array, a table, or nested values.

import { EXACT, isDict, restored, shown, shownNumber } from "casket/model/facts";
import { html } from "casket/shell/html";
import { useState } from "preact/hooks";

const FIRST = 30;
const SHORT_LIST = 12;
const LONG_TEXT = 300;
const OPEN_LEVELS = 2;
const FEW = 8;

/** Any value of a result, params or meta. */
export function Value({ value, name = "", level = 0 }) {
  const kind = isDict(value) ? value.casket : undefined;
  if (kind === "image") return html`<${Picture} src=${value.src} name=${name} />`;
  if (kind === "array") return html`<span class="array">${arrayInWords(value)}</span>`;
  if (kind === "table") return html`<${TableOf} ...${value} name=${name} />`;
  if (isDict(value)) {
    const entries = Object.entries(value);
    return entries.length
      ? html`<${Entries} entries=${entries} level=${level} />`
      : html`<span class="muted">empty</span>`;
  }
  if (Array.isArray(value)) return html`<${List} items=${value} name=${name} level=${level} />`;
  if (value === null || value === undefined) return html`<span class="muted">null</span>`;
  if (typeof value === "string") return html`<${Text} text=${value} />`;
  return html`<span class="number">${shown(value, name, EXACT)}</span>`;
}

/** Names and their values; many are folded. */
export function Entries({ entries, level = 0 }) {
  const [most, setMost] = useState(FIRST);
  const rest = entries.length - most;
  return html`<dl class=${`entries level-${Math.min(level, 3)}`}>
      ${entries.slice(0, most).map(
        ([name, value]) => html`<div key=${name}>
          <dt>${name}</dt>
          <dd>
            <${Foldable} value=${value} level=${level + 1}>
              <${Value} value=${value} name=${name} level=${level + 1} />
            <//>
          </dd>
        </div>`,
      )}
    </dl>
    ${rest > 0 &&
    html`<button type="button" onClick=${() => setMost(most * 4)}>${rest} more</button>`}`;
}

/** An image that opens in full by a click. */
export function Picture({ src, name }) {
  const [isLarge, setLarge] = useState(false);
  return html`<button
    type="button"
    class=${isLarge ? "picture large" : "picture"}
    aria-pressed=${isLarge}
    aria-label=${`${name || "image"}: show ${isLarge ? "small" : "large"}`}
    onClick=${() => setLarge(!isLarge)}
  >
    <img src=${src} alt=${name || "image"} loading="lazy" />
  </button>`;
}

/** A table by its columns and the first of its rows. */
export function TableOf({ columns, rows, count = rows.length, name }) {
  return html`<div class="scroll" tabindex="0" role="region"
    aria-label=${`${name}: table`}>
    <table class="plain-table">
      <thead>
        <tr>${columns.map((column, i) => html`<th scope="col" key=${i}>${column}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map(
          (row, i) => html`<tr key=${i}>
            ${row.map((cell, at) => html`<${TableCell} key=${at} value=${restored(cell)} />`)}
          </tr>`,
        )}
      </tbody>
    </table>
    ${count > rows.length && html`<p class="muted">The first ${rows.length} of ${count} rows.</p>`}
  </div>`;
}

function TableCell({ value }) {
  const isPlain = !isDict(value) || value.casket === undefined;
  return html`<td class=${typeof value === "number" ? "number" : ""}>
    ${isPlain ? shown(value, "", EXACT) : html`<${Value} value=${value} />`}
  </td>`;
}

function Foldable({ value, level, children }) {
  const names = isDict(value) && value.casket === undefined ? Object.keys(value) : [];
  const [isOpen, setOpen] = useState(level <= OPEN_LEVELS);
  if (!names.length || (names.length <= FEW && level <= OPEN_LEVELS)) return children;
  const summary = `${names.slice(0, 4).join(", ")}${names.length > 4 ? ", …" : ""}`;
  return html`<details open=${isOpen} onToggle=${(event) => setOpen(event.target.open)}>
    <summary>${isOpen ? `${names.length} inside` : summary}</summary>
    ${isOpen && children}
  </details>`;
}

function List({ items, name, level }) {
  const [isOpen, setOpen] = useState(false);
  if (isMatrix(items)) {
    const columns = items[0].map((_, i) => i);
    return html`<${TableOf} columns=${columns} rows=${items.slice(0, FIRST)} count=${items.length}
      name=${name} />`;
  }
  const isPlain = items.every((item) => item === null || typeof item !== "object");
  if (isPlain && (isOpen || items.length <= SHORT_LIST)) {
    return html`<${Text} text=${shown(items.map(restored), "", EXACT)} />`;
  }
  const first = items.slice(0, 4).map((item) => shown(restored(item), "", EXACT));
  const summary = `${items.length} values: ${first.join(", ")}, …`;
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>${isPlain ? summary : `${items.length} values`}</summary>
    ${isOpen &&
    html`<${Entries} entries=${items.map((item, i) => [String(i), item])} level=${level} />`}
  </details>`;
}

function isMatrix(items) {
  const width = items[0]?.length;
  const isRow = (row) =>
    Array.isArray(row) && row.length === width && row.every((cell) => typeof cell === "number");
  return items.length > 1 && width > 0 && width <= FIRST && items.every(isRow);
}

function Text({ text }) {
  const [isOpen, setOpen] = useState(false);
  const plain = typeof restored(text) === "number" ? text : shown(text);
  if (plain.length <= LONG_TEXT) return html`<span class="text">${plain}</span>`;
  return html`<span class="text">${isOpen ? plain : `${plain.slice(0, LONG_TEXT)}…`}</span>${" "}
    <button type="button" onClick=${() => setOpen(!isOpen)}>
      ${isOpen ? "Shorter" : `All ${plain.length} characters`}
    </button>`;
}

function arrayInWords({ shape, dtype, min, max, mean }) {
  const size = `Array of ${shape.join(" × ")}${dtype ? `, ${dtype}` : ""}`;
  if (min === null || min === undefined) return size;
  const [low, high, middle] = [min, max, mean].map((number) => shownNumber(restored(number)));
  return `${size}; from ${low} to ${high}, mean ${middle}`;
}
