import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { headOf, possibleColumns } from "casket/model/arrange";
import * as listing from "casket/model/listing";
import { data } from "casket/model/page";
import { state, update } from "casket/model/view";
import { Menu } from "casket/shell/controls";
import { html } from "casket/shell/html";
import { Icon } from "casket/shell/icons";

const MOST = 100;

/** Chooses columns, and puts them in order. */
export function ColumnMenu() {
  const [isOpen, open] = useState(false);
  return html`<${Menu} label="Columns" isRight onOpen=${() => open(true)}>
    ${isOpen && html`<${Columns} />`}
  <//>`;
}

function Columns() {
  const rows = data.rows.value;
  const columns = listing.columns.value;
  const isChosen = state.value.columns !== null;
  const [text, setText] = useState("");
  const [most, setMost] = useState(MOST);
  const names = useMemo(() => possibleColumns(rows), [rows]);
  const fitting = names.filter(
    (name) => !columns.includes(name) && name.toLowerCase().includes(text.toLowerCase()),
  );
  const move = (name, step) => {
    const at = columns.indexOf(name);
    const rest = columns.filter((other) => other !== name);
    rest.splice(Math.max(at + step, 0), 0, name);
    update({ columns: rest });
  };
  const remove = (name) => update({ columns: columns.filter((other) => other !== name) });
  const keepFocus = useKeptFocus(columns);
  return html`<div class="chooser" onClickCapture=${keepFocus}>
    <h2>Shown</h2>
    <ol>
      ${columns.map(
        (name, i) => html`<li key=${name}>
          <span class="cut" title=${name}>${headOf(name)}</span>
          <button
            type="button"
            class="quiet"
            disabled=${i === 0}
            aria-label=${`${headOf(name)} further left`}
            onClick=${() => move(name, -1)}
          >
            <${Icon} name="up" />
          </button>
          <button
            type="button"
            class="quiet"
            disabled=${i === columns.length - 1}
            aria-label=${`${headOf(name)} further right`}
            onClick=${() => move(name, 1)}
          >
            <${Icon} name="low" />
          </button>
          <button
            type="button"
            class="quiet"
            aria-label=${`Remove ${headOf(name)}`}
            onClick=${() => remove(name)}
          >
            <${Icon} name="close" />
          </button>
        </li>`,
      )}
    </ol>
    ${isChosen &&
    html`<button type="button" onClick=${() => update({ columns: null })}>The usual ones</button>`}
    <h2><label for="column-search">Add</label></h2>
    <input
      id="column-search"
      type="search"
      placeholder="name of a param or metric"
      value=${text}
      onInput=${(event) => setText(event.target.value)}
    />
    <ul>
      ${fitting.slice(0, most).map(
        (name) => html`<li key=${name}>
          <button
            type="button"
            class="add cut"
            onClick=${() => update({ columns: [...columns, name] })}
          >
            ${name}
          </button>
        </li>`,
      )}
    </ul>
    <${More} count=${fitting.length - most} onClick=${() => setMost(most + 5 * MOST)} />
  </div>`;
}

/**
 * Returns a handler of clicks: if the button that was clicked is gone after a change, that in its
 * place gets the focus, else the search.
 */
function useKeptFocus(columns) {
  const place = useRef(/** @type {{list: HTMLElement, at: number, kind: string} | null} */ (null));
  useLayoutEffect(() => {
    if (!place.current) return;
    const { list, at, kind } = place.current;
    const others = /** @type {NodeListOf<HTMLElement>} */ (list.querySelectorAll(kind));
    if (!list.contains(document.activeElement)) {
      (others[Math.min(at, others.length - 1)] ?? document.getElementById("column-search"))?.focus();
    }
    place.current = null;
  }, [columns]);
  return ({ target }) => {
    const button = target.closest("ul .add, ol button:last-child");
    if (!button) return;
    const list = button.closest("ul, ol");
    const kind = button.matches(".add") ? ".add" : "button:last-child";
    place.current = { list, at: [...list.querySelectorAll(kind)].indexOf(button), kind };
  };
}

/** Chooses the names by which sessions are grouped. */
export function GroupMenu() {
  const { group } = state.value;
  // While the menu is open, its names stay where they are.
  const [names, setNames] = useState(/** @type {string[] | null} */ (null));
  const label = group.length ? `Group: ${group.map(headOf).join(", ")}` : "Group";
  return html`<${Menu}
    label=${html`<span class="cut">${label}</span>`}
    onOpen=${() => setNames(groupNames(data.rows.peek(), listing.varying.peek(), group))}
  >
    ${names && html`<${Groups} names=${names} />`}
  <//>`;
}

function groupNames(rows, varying, group) {
  const own = ["experiment", "model", "status"].filter(
    (name) => new Set(rows.map((row) => row[name])).size > 1,
  );
  return [...new Set([...group, ...varying, ...own])];
}

function Groups({ names }) {
  const { group } = state.value;
  const [most, setMost] = useState(MOST);
  const toggle = (name) => {
    const isIn = group.includes(name);
    update({ group: isIn ? group.filter((n) => n !== name) : [...group, name] });
  };
  return html`<fieldset>
    <legend>Sessions are one row if they share</legend>
    ${names.slice(0, most).map(
      (name) => html`<label class="choice" key=${name}>
        <input
          type="checkbox"
          checked=${group.includes(name)}
          onChange=${() => toggle(name)}
        />
        <span>${name}</span>
      </label>`,
    )}
    <${More} count=${names.length - most} onClick=${() => setMost(most + 5 * MOST)} />
    ${!names.length && html`<p class="hint">All sessions have the same params.</p>`}
    ${group.length > 0 &&
    html`<button type="button" onClick=${() => update({ group: [] })}>No groups</button>`}
  </fieldset>`;
}

function More({ count, onClick }) {
  if (count <= 0) return null;
  return html`<button type="button" class="quiet" onClick=${onClick}>and ${count} more</button>`;
}
