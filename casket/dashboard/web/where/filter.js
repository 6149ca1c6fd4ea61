import { useMemo, useState } from "preact/hooks";

import { condition, isWriting, loadLanguage } from "casket/model/condition";
import { isKnown } from "casket/model/facts";
import * as listing from "casket/model/listing";
import { data } from "casket/model/page";
import { fields, update } from "casket/model/view";
import { html, useElement } from "casket/shell/html";
import { fittingNames, hintOf, offeredNames } from "casket/where/names";

const filter = fields("where");

/** The box for a `where` expression: marks mistakes, and suggests names. */
export function Filter() {
  const { where } = filter.value;
  const { mistake, names } = condition.value;
  const rows = data.rows.value;
  const columns = listing.columns.value;
  const isHeld = listing.isHeld.value;
  /** @type {{current: HTMLInputElement}} */
  const input = useElement();
  const [word, setWord] = useState(/** @type {any} */ (null));
  const isAsking = word !== null;
  const unknown = useMemo(() => names.find(({ parts }) => !isKnown(parts, rows)), [names, rows]);
  const isNeeded = isAsking || Boolean(unknown);
  const offered = useMemo(
    () => (isNeeded ? offeredNames(rows, columns) : []),
    [isNeeded, rows, columns],
  );
  const fitting = isAsking ? fittingNames(offered, word.text) : [];
  const doubt = unknown && !fitting.length ? hintOf(unknown, where, offered) : "";

  const look = () => setWord(wordAt(input.current));
  const take = (name) => {
    const { from, to } = word;
    update({ where: where.slice(0, from) + name + where.slice(to) });
    setWord(null);
    requestAnimationFrame(() => {
      input.current?.focus();
      input.current?.setSelectionRange(from + name.length, from + name.length);
    });
  };
  const onKeyDown = (event) => {
    if (event.key === "Tab" && !event.shiftKey && fitting.length && word.text) {
      event.preventDefault();
      take(fitting[0]);
    } else if (event.key === "Enter") {
      isWriting.value = false;
      setWord(null);
    } else if (event.key === "Escape") {
      setWord(null);
      if (!fitting.length) input.current.blur();
    }
  };
  const held = "Nothing fits this yet; below is what fitted before.";
  const help = "Press / to come here. Tab takes the first name offered.";
  const said = mistake?.message || doubt || (isHeld ? held : help);
  const count = listing.fitCount.value;
  const total = rows.length;
  return html`<div class="filter" role="search">
    <div class="box">
      <div class="under" aria-hidden="true">
        ${mistake && html`<${Marked} text=${where} at=${mistake.position} />`}
      </div>
      <input
        id="where"
        ref=${input}
        type="text"
        spellcheck="false"
        autocomplete="off"
        autocapitalize="off"
        placeholder="Filter, such as  params.lr < 0.1 and 'baseline' in tags"
        aria-label="Filter sessions by a condition"
        aria-invalid=${Boolean(mistake)}
        aria-describedby="where-says"
        value=${where}
        onInput=${(event) => {
          isWriting.value = true;
          update({ where: event.target.value });
          look();
        }}
        onFocus=${loadLanguage}
        onKeyUp=${(event) => event.key.startsWith("Arrow") && look()}
        onClick=${look}
        onBlur=${() => {
          isWriting.value = false;
          setWord(null);
        }}
        onKeyDown=${onKeyDown}
      />
      <span class="count" role="status">${count === total ? total : `${count} of ${total}`}</span>
    </div>
    <p id="where-says" class=${mistake || doubt ? "trouble" : isHeld ? "hint" : "hidden-word"}>
      ${said}
    </p>
    ${fitting.length > 0 &&
    html`<div class="names" role="group" aria-label="Names that can follow">
      ${fitting.map(
        (name, i) => html`<button
          type="button"
          tabindex="-1"
          onMouseDown=${(event) => event.preventDefault()}
          onClick=${() => take(name)}
        >
          ${name}${i === 0 && word.text && html`<kbd>Tab</kbd>`}
        </button>`,
      )}
    </div>`}
  </div>`;
}

/** The text again, unseen, with a line under the place where the mistake is. */
function Marked({ text, at }) {
  const end = /^\s*\S*/.exec(text.slice(at))?.[0].length || 1;
  const wrong = text.slice(at, at + end);
  return html`${text.slice(0, at)}<mark>${wrong || "\u00a0\u00a0"}</mark>`;
}

/** Returns the name that is being written at the caret, where a name can stand. */
function wordAt({ value, selectionStart: caret }) {
  const before = value.slice(0, caret);
  const isInText = (before.match(/'/g)?.length ?? 0) % 2 || (before.match(/"/g)?.length ?? 0) % 2;
  if (isInText) return null;
  const start = /[A-Za-z_][\w.]*$/.exec(before)?.index ?? caret;
  const text = value.slice(start, caret);
  if (!text && !/(^|\b(and|or|not)|\()\s*$/.test(before)) return null;
  return { text, from: start, to: caret + (/^[\w.]*/.exec(value.slice(caret))?.[0].length ?? 0) };
}
