import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";

import { isKnown } from "casket/model/facts";
import { html } from "casket/shell/html";
import { fittingNames, meantName, offeredNames } from "casket/where/names";

const UNREAD = { fits: null, mistake: null, names: [] };
const ANY = { ...UNREAD, fits: () => true };
let language;

/** Loads what reads conditions: most who open the page write none. */
export async function loadLanguage() {
  language ??= await import("casket/where/where");
}

/** Returns `{fits, mistake, names}` of a `where` expression; an empty one fits all. */
export function useWhere(text) {
  const isEmpty = !text.trim();
  const [problem, setProblem] = useState("");
  const [, again] = useReducer((n) => n + 1, 0);
  const isLoaded = Boolean(language);
  useEffect(() => {
    if (isEmpty || isLoaded) return;
    const say = () => setProblem("What reads conditions did not load; reload the page.");
    loadLanguage().then(again, say);
  }, [isEmpty, isLoaded]);
  return useMemo(() => {
    if (isEmpty) return ANY;
    if (isLoaded) return read(text);
    return problem ? { ...UNREAD, mistake: { message: problem, position: 0 } } : UNREAD;
  }, [text, isLoaded, problem]);
}

function read(text) {
  try {
    return { fits: language.compile(text), mistake: null, names: language.namesIn(text) };
  } catch (error) {
    if (!(error instanceof language.Mistake)) throw error;
    return { ...UNREAD, mistake: error };
  }
}

/** The box for a `where` expression: says what is wrong with it and where, and offers names. */
export function Filter(props) {
  const { state, update, rows, columns, mistake, names, count, setWriting, isHeld } = props;
  const input = useRef(null);
  const [word, setWord] = useState(null);
  const isAsking = word !== null;
  const unknown = useMemo(() => names.find((parts) => !isKnown(parts, rows)), [names, rows]);
  const isNeeded = isAsking || Boolean(unknown);
  const offered = useMemo(
    () => (isNeeded ? offeredNames(rows, columns) : []),
    [isNeeded, rows, columns],
  );
  const fitting = isAsking ? fittingNames(offered, word.text) : [];
  const doubt = unknown && !fitting.length ? doubtOf(unknown.join("."), offered) : "";

  const look = () => setWord(wordAt(input.current));
  const take = (name) => {
    const { from, to } = word;
    const text = state.where.slice(0, from) + name + state.where.slice(to);
    update({ where: text });
    setWord(null);
    requestAnimationFrame(() => {
      input.current.focus();
      input.current.setSelectionRange(from + name.length, from + name.length);
    });
  };
  const onKeyDown = (event) => {
    if (event.key === "Tab" && !event.shiftKey && fitting.length && word.text) {
      event.preventDefault();
      take(fitting[0]);
    } else if (event.key === "Enter") {
      setWriting(false);
      setWord(null);
    } else if (event.key === "Escape") {
      setWord(null);
      if (!fitting.length) input.current.blur();
    }
  };
  const held = "Nothing fits this yet; below is what fitted before.";
  const help = "Press / to come here. Tab takes the first name offered.";
  const said = mistake?.message || doubt || (isHeld ? held : help);
  const total = rows.length;
  return html`<div class="filter" role="search">
    <div class="box">
      <div class="under" aria-hidden="true">
        ${mistake && html`<${Marked} text=${state.where} at=${mistake.position} />`}
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
        value=${state.where}
        onInput=${(event) => {
          setWriting(true);
          update({ where: event.target.value });
          look();
        }}
        onFocus=${loadLanguage}
        onKeyUp=${(event) => event.key.startsWith("Arrow") && look()}
        onClick=${look}
        onBlur=${(event) => {
          setWriting(false);
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

function doubtOf(unknown, offered) {
  const meant = meantName(offered, unknown);
  return `No session has ${unknown}${meant ? `; did you mean ${meant}?` : "."}`;
}

/** The text again, unseen, with a line under the place where the mistake is. */
function Marked({ text, at }) {
  const end = /^\s*\S*/.exec(text.slice(at))[0].length || 1;
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
  return { text, from: start, to: caret + /^[\w.]*/.exec(value.slice(caret))[0].length };
}
