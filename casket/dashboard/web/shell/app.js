import { render } from "preact";
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";

import * as address from "casket/model/address";
import {
  byStart, drawnGroups, drawnRows, groupsInOrder, groupsOf, headOf, inOrder, usualColumns,
} from "casket/model/arrange";
import { Colours, useScheme } from "casket/shell/colours";
import { Cursor } from "casket/curves/cursor";
import { CurveStore } from "casket/model/curve_store";
import { Data } from "casket/model/data";
import { shown, varyingNames } from "casket/model/facts";
import { loadLanguage, useWhere } from "casket/where/filter";
import { html } from "casket/shell/html";
import { KeyHelp, useKeys } from "casket/shell/keyboard";
import { mainMetric } from "casket/model/metrics";
import { SavedViews } from "casket/shell/saved";
import { Sessions } from "casket/sessions/sessions";
import { source as sourceOfPage } from "casket/model/source";
import { Banners, Guard, NoSessions, PageGuard } from "casket/shell/states";
import { settings, values } from "casket/sessions/summary";

const PARTS = {
  compare: () => import("casket/compare/compare").then((module) => module.Compare),
  explore: () => import("casket/explore/explore").then((module) => module.Explore),
  session: () => import("casket/session/session").then((module) => module.SessionPage),
};
const SELDOM = ["view", "session"];
const PAUSE = 150;
const PAUSE_IN_WRITING = 1000;

function App() {
  const source = useMemo(sourceOfPage, []);
  const [, again] = useReducer((n) => n + 1, 0);
  const data = useMemo(() => new Data(source, again), []);
  const store = useMemo(() => new CurveStore(source), []);
  const cursor = useMemo(() => new Cursor(), []);
  useEffect(() => {
    data.start();
  }, []);
  const [state, update, shortNames] = useAddress(data.rows);
  const paint = usePaint();
  const [isHelping, help] = useState(false);
  const shown = useShown(data, state, paint);

  const go = (view) => update({ view });
  useKeys({
    "/": () => focusOn("#where"),
    t: () => focusOn(".table"),
    c: () => state.selected.length && go("compare"),
    a: () => update({ selected: state.selected.length ? [] : shown.rows.map((row) => row.key) }),
    l: () => update({ log: !state.log }),
    0: () => update({ range: null }),
    "?": () => help(true),
    "g s": () => go("sessions"),
    "g c": () => go("compare"),
    "g e": () => go("explore"),
  });
  useEffect(() => {
    document.title = titleOf(data, state);
  }, [data.files, state.view, state.session]);

  const props = { ...shown, shortNames, data, source, store, cursor, state, update, paint };
  return html`
    <${Header} ...${{ data, state, update, source }} onHelp=${() => help(true)} />
    <main id="main">
      <${Banners} data=${data} />
      ${data.rows.length === 0
        ? html`<${NoSessions} data=${data} />`
        : html`<${Guard} ...${{ state, update }}><${View} ...${props} /><//>`}
    </main>
    ${isHelping && html`<${KeyHelp} onClose=${() => help(false)} />`}
  `;
}

function View(props) {
  const { state, data } = props;
  if (state.view === "sessions") return html`<${Sessions} ...${props} />`;
  return html`<${Part} key=${state.view} ...${props} allRows=${data.rows} />`;
}

/** A view that is loaded when it is looked at. */
function Part(props) {
  const { state, update, data } = props;
  const [Loaded, setLoaded] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const take = (component) => setLoaded(() => component);
    PARTS[state.view]().then(take, () => setProblem("This part did not load; reload the page."));
  }, [state.view]);
  const row = data.row(state.session);
  if (problem) return html`<div class="state" role="alert"><p>${problem}</p></div>`;
  if (!Loaded) return html`<p class="state" role="status">Loading…</p>`;
  if (state.view === "session" && !row) {
    return html`<div class="state" role="status">
      <h2>This session is not here</h2>
      <p>It was removed, or the link is of other files than ${namesOf(data.files)}.</p>
      <button type="button" onClick=${() => update({ view: "sessions", session: "" })}>
        All sessions
      </button>
    </div>`;
  }
  const { colourOf, scheme } = props.paint;
  return html`<${Loaded} ...${props} ...${{ row, colourOf, scheme }} />`;
}

function Header({ data, state, update, source, onHelp }) {
  const count = state.selected.length;
  const link = (view, text) => html`<a
    href=${`#view=${view}`}
    aria-current=${state.view === view ? "page" : undefined}
    onClick=${(event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      update({ view });
    }}
  >${text}</a>`;
  const isReading = data.files.some((file) => file.state === "reading");
  const connection = {
    live: isReading ? "reading" : "live",
    lost: "lost",
    still: source.isLive ? "connecting" : "report",
  }[data.connection];
  return html`<header>
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      focusOn(".table");
    }}>To the table</a>
    <h1 class="mark">casket</h1>
    <span class="files">
      ${data.files.map(
        ({ name, place }, i) => html`${i > 0 && ", "}<span title=${place}>${name}</span>`,
      )}
    </span>
    <nav aria-label="Views">
      ${link("sessions", "Sessions")}
      ${link("compare", count ? `Compare ${count}` : "Compare")}
      ${link("explore", "Explore")}
    </nav>
    <span class="space"></span>
    <span class=${`connection is-${connection}`} role="status">
      <svg viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="4" /></svg>${connection}
    </span>
    ${data.files.length > 0 &&
    html`<${SavedViews} place=${data.files.map(({ place }) => place).join(" ")} />`}
    <button type="button" class="quiet" aria-label="Keys" title="Keys (?)" onClick=${onHelp}>
      ?
    </button>
  </header>`;
}

/** What is shown of all sessions, in which order, and which of them are drawn. */
function useShown(data, state, paint) {
  const all = data.rows;
  const [open, setOpen] = useState(new Set());
  const lastFitting = useRef(() => true);
  const [isWriting, setWriting] = useState(false);
  useEffect(() => {
    const timer = isWriting && setTimeout(setWriting, PAUSE_IN_WRITING, false);
    return () => clearTimeout(timer);
  }, [isWriting, state.where]);
  const { fits, mistake, names } = useWhere(state.where);
  const fitting = useMemo(() => (fits ? all.filter(fits) : null), [all, fits]);
  // While a condition is being written, the last whole one that fitted anything holds.
  const isHeld = !fitting || (isWriting && !fitting.length);
  if (!isHeld) lastFitting.current = fits;
  const before = lastFitting.current;
  const rows = useMemo(() => (isHeld ? all.filter(before) : fitting), [isHeld, all, fitting]);
  const varying = useMemo(() => varyingNames(all), [data.generation]);
  const goals = useMemo(() => goalsOf(rows), [rows]);
  const main = useMemo(() => mainMetric(rows), [rows]);
  const goal = goals.includes(state.goal) ? state.goal : main;
  const usual = useMemo(
    () => usualColumns(all, { goal, varying, group: state.group }),
    [all, goal, varying, state.group],
  );
  const columns = useStable(state.columns ?? usual);
  const ordered = useMemo(() => inOrder(rows, state.sort), [rows, state.sort]);
  const items = useMemo(
    () => itemsOf(ordered, state, open),
    [ordered, state.group, state.pinned, state.sort, open],
  );
  const { hidden, unfinished, selected: selectedKeys, pinned, show, group, sort } = state;
  const drawn = useMemo(
    () => drawnOf(ordered, all, state, varying, goal),
    [ordered, hidden, unfinished, selectedKeys, pinned, show, group, sort, goal],
  );
  const byAge = useMemo(() => keysByAge(all, group), [all, group]);
  useMemo(() => paint.assign(drawn.parts.map((part) => part.key), byAge), [drawn, byAge]);
  const selected = useMemo(
    () => selectedKeys.map((key) => data.row(key)).filter(Boolean),
    [selectedKeys, all],
  );
  const onExpand = (key) => {
    const next = new Set(open);
    if (!next.delete(key)) next.add(key);
    setOpen(next);
  };
  return {
    rows, ordered, items, columns, drawn, selected, goal, goals, varying, mistake, names,
    onExpand, isHeld, setWriting, fitCount: fitting?.length ?? 0,
  };
}

function itemsOf(ordered, { group, pinned, sort }, open) {
  if (!group.length) {
    const isPinned = new Set(pinned);
    const top = ordered.filter((row) => isPinned.has(row.key));
    const rest = ordered.filter((row) => !isPinned.has(row.key));
    return [...top, ...rest].map((row) => ({ key: row.key, row }));
  }
  return groupsInOrder(groupsOf(ordered, group), sort).flatMap((found) => {
    const isOpen = open.has(found.key);
    const head = { key: found.key, group: found, isOpen };
    return isOpen ? [head, ...found.rows.map((row) => ({ key: row.key, row, depth: 1 }))] : [head];
  });
}

function drawnOf(ordered, all, state, varying, goal) {
  const parts = state.group.length
    ? drawnGroups(ordered, all, state, goal).map((group) => ({
        key: group.key,
        label: group.names.map((name, i) => `${headOf(name)}=${shown(group.values[i])}`).join(" "),
        rows: group.rows,
      }))
    : drawnRows(ordered, all, state, goal).map((row) => ({
        key: row.key,
        label: `${row.id.slice(0, 6)} ${settings(row, varying)}`,
        name: `${row.id.slice(0, 6)} ${values(row, varying)}`,
        rows: [row],
      }));
  const groupOf = new Map();
  for (const part of parts) for (const row of part.rows) groupOf.set(row.key, part.key);
  return { parts, keys: new Set(groupOf.keys()), groupOf };
}

/** Returns the keys of all sessions, and those of their groups, what began first before others. */
function keysByAge(rows, group) {
  const aged = [...rows].sort(byStart);
  const groups = group.length ? groupsOf(aged, group) : [];
  return [aged, groups].map((list) => list.map(({ key }) => key));
}

/** The state of the view, as the address has it. */
function useAddress(rows) {
  const [raw, setRaw] = useState(() => address.parse(location.hash));
  const settled = useRef({});
  const state = useMemo(() => {
    settled.current = withKept(address.resolve(raw, rows), settled.current);
    return settled.current;
  }, [raw, rows.length]);
  const shortNames = useMemo(() => address.shortNames(rows), [rows]);
  const latest = useRef({});
  latest.current = { state, shortNames };
  useEffect(() => {
    const read = () => setRaw(address.parse(location.hash));
    addEventListener("popstate", read);
    return () => removeEventListener("popstate", read);
  }, []);
  const update = useMemo(() => {
    let timer;
    const write = (how) => {
      clearTimeout(timer);
      const hash = address.format(latest.current.state, latest.current.shortNames);
      history[how](null, "", hash || location.pathname + location.search);
    };
    return (change) => {
      const before = latest.current.state;
      const next = { ...before, ...change };
      if (next.view !== "session") next.session = "";
      const isStep = SELDOM.some((name) => next[name] !== before[name]);
      if (isStep) write("replaceState");
      latest.current.state = next;
      setRaw(next);
      clearTimeout(timer);
      if (isStep) write("pushState");
      // Browsers refuse an address that changes too often, as under a slider.
      else timer = setTimeout(write, PAUSE, "replaceState");
    };
  }, []);
  return [state, update, shortNames];
}

/** Keeps the lists of the state before where they are equal, so that nothing is done again. */
function withKept(state, before) {
  const isSame = ([name, value]) => JSON.stringify(value) === JSON.stringify(before[name]);
  const same = Object.entries(state).filter(isSame);
  return { ...state, ...Object.fromEntries(same.map(([name]) => [name, before[name]])) };
}

function useStable(list) {
  const kept = useRef(list);
  if (list.join("\n") !== kept.current.join("\n")) kept.current = list;
  return kept.current;
}

function goalsOf(rows) {
  return [...new Set(rows.flatMap((row) => Object.keys(row.best ?? {})))].sort();
}

/** Colours as the system wants them now. */
function usePaint() {
  const scheme = useScheme();
  const book = useMemo(() => new Colours(), []);
  const isCoarse = useMemo(() => matchMedia("(pointer: coarse)").matches, []);
  return useMemo(() => {
    const style = getComputedStyle(document.documentElement);
    const named = (name) => style.getPropertyValue(name).trim();
    return {
      scheme,
      isCoarse,
      assign: (drawn, byAge) => book.assign(drawn, byAge),
      colourOf: (key) => book.of(key, scheme),
      colours: {
        text: named("--muted"),
        grid: named("--grid-line"),
        ground: named("--ground"),
        font: "system-ui, sans-serif",
      },
    };
  }, [scheme]);
}

function focusOn(selector) {
  document.querySelector(selector)?.focus();
}

function titleOf(data, state) {
  const id = data.row(state.session)?.id.slice(0, 8);
  const part = { compare: "Compare", explore: "Explore", session: id }[state.view];
  return [part, namesOf(data.files) || "casket"].filter(Boolean).join(" · ");
}

function namesOf(files) {
  return files.map(({ name }) => name).join(", ");
}

// That it did not load is said where the condition is needed.
if (address.parse(location.hash).where) await loadLanguage().catch(() => undefined);
render(html`<${PageGuard}><${App} /><//>`, document.getElementById("app"));
