import { effect } from "@preact/signals";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";

import { loadLanguage } from "casket/model/condition";
import { quoted } from "casket/model/facts";
import * as listing from "casket/model/listing";
import { data, source } from "casket/model/page";
import { hasSweeps, sweepOf, sweeps } from "casket/model/sweeps";
import { state, update } from "casket/model/view";
import { Sessions } from "casket/sessions/sessions";
import { Menu, Segments } from "casket/shell/controls";
import { html } from "casket/shell/html";
import { KeyHelp, useKeys } from "casket/shell/keyboard";
import { chooseScheme, chosenScheme } from "casket/shell/paint";
import { SavedViews } from "casket/shell/saved";
import { Banners, Guard, NoSessions, PageGuard } from "casket/shell/states";

const PARTS = {
  compare: () => import("casket/compare/compare").then((module) => module.Compare),
  explore: () => import("casket/explore/explore").then((module) => module.Explore),
  session: () => import("casket/session/session").then((module) => module.SessionPage),
  sweep: () => import("casket/sweep/sweep").then((module) => module.SweepPage),
};

function App() {
  const [isHelping, help] = useState(false);
  const go = (view) => update({ view });
  useKeys({
    "/": () => focusOn("#where"),
    t: () => focusOn(".table"),
    c: () => state.peek().selected.length && go("compare"),
    a: () => update({ selected: state.peek().selected.length ? [] : keysOf(listing.rows.peek()) }),
    l: () => update({ log: !state.peek().log }),
    o: () => update({ outliers: !state.peek().outliers }),
    m: () => clickOn('summary[aria-label="Metrics"]'),
    b: () => focusOn(".baseline"),
    e: () => clickOn(".equal-rows"),
    0: () => update({ range: null }),
    "?": () => help(true),
    "g s": () => go("sessions"),
    "g c": () => go("compare"),
    "g e": () => go("explore"),
    "g w": () => go("sweep"),
  });
  return html`
    <${Header} onHelp=${() => help(true)} />
    <main id="main">
      <${Banners} />
      <${Main} />
    </main>
    ${isHelping && html`<${KeyHelp} onClose=${() => help(false)} />`}
  `;
}

function Main() {
  if (data.rows.value.length === 0) return html`<${NoSessions} />`;
  return html`<${Guard} state=${state.value}><${View} /><//>`;
}

function View() {
  const { view } = state.value;
  return view === "sessions" ? html`<${Sessions} />` : html`<${Part} key=${view} view=${view} />`;
}

/** A view that is loaded when it is looked at. */
function Part({ view }) {
  const [Loaded, setLoaded] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const take = (component) => setLoaded(() => component);
    PARTS[view]().then(take, () => setProblem("This part did not load; reload the page."));
  }, [view]);
  const { session } = state.value;
  const row = data.row(session);
  if (problem) return html`<div class="state" role="alert"><p>${problem}</p></div>`;
  if (!Loaded) return html`<p class="state" role="status">Loading…</p>`;
  if (view === "session" && !row) {
    return html`<div class="state" role="status">
      <h2>This session is not here</h2>
      <p>It was removed, or the link is of other files than ${namesOf(data.files.value)}.</p>
      <button type="button" onClick=${() => update({ view: "sessions", session: "" })}>
        All sessions
      </button>
    </div>`;
  }
  return html`<${Loaded} row=${row} />`;
}

function Header({ onHelp }) {
  const { view, selected } = state.value;
  const files = data.files.value;
  const sweep = sweepOf(sweeps.value, state.value.sweep);
  const link = (name, text, count = "") => html`<a
    href=${`#view=${name}`}
    aria-current=${view === name ? "page" : undefined}
    onClick=${(event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      update({ view: name });
    }}
  >${text}${count && html` <span class="many">${count}</span>`}</a>`;
  const isReading = files.some((file) => file.state === "reading");
  const connection = {
    live: isReading ? "reading" : "live",
    lost: "lost",
    still: source.isLive ? "connecting" : "report",
  }[data.connection.value];
  return html`<header>
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      focusOn(".table");
    }}>To the table</a>
    <h1 class="mark"><${Mark} />casket</h1>
    <span class="files">
      ${files.map(({ name, place }, i) => html`${i > 0 && ", "}<span title=${place}>${name}</span>`)}
    </span>
    <${Experiments} />
    <nav aria-label="Views">
      ${link("sessions", "Sessions", data.rows.value.length.toLocaleString("en"))}
      ${link("compare", "Compare", selected.length ? String(selected.length) : "")}
      ${(hasSweeps.value || view === "sweep") && link("sweep", "Sweep", progressOf(sweep))}
      ${link("explore", "Explore")}
    </nav>
    <span class="space"></span>
    <span class=${`connection is-${connection}`} role="status">
      <svg viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="4" /></svg>${connection}
    </span>
    ${files.length > 0 &&
    html`<${SavedViews} place=${files.map(({ place }) => place).join(" ")} />`}
    <${SchemeMenu} />
    <button type="button" class="square" aria-label="Keys" title="Keys (?)" onClick=${onHelp}>
      ?
    </button>
  </header>`;
}

/** The experiment, or a choice among several, which filters the table. */
function Experiments() {
  const counts = new Map();
  for (const { experiment } of data.rows.value) counts.set(experiment, (counts.get(experiment) ?? 0) + 1);
  if (!counts.size) return null;
  if (counts.size === 1) return html`<span class="crumb"><span class="dim">/</span> <b class="cut">${[...counts.keys()]}</b></span>`;
  const filter = (where) => update({ view: "sessions", where });
  return html`<span class="crumb">
    <span class="dim">/</span>
    <${Menu} label=${`${counts.size} experiments`} name="Experiments" isQuiet>
      <div class="choices">
        <button type="button" class="quiet" onClick=${() => filter("")}>All</button>
        ${[...counts].map(([name, count]) => html`<button type="button" class="quiet" key=${name}
          onClick=${() => filter(`experiment == ${quoted(name)}`)}>
          ${name} <span class="dim">${count.toLocaleString("en")}</span>
        </button>`)}
      </div>
    <//>
  </span>`;
}

function progressOf(sweep) {
  return sweep ? [sweep.done, sweep.size ?? []].flat().join("/") : "";
}

function Mark() {
  return html`<svg viewBox="0 0 18 18" aria-hidden="true">
    <path d="M3 2h12l2 5H1Z M1 8.5h6v2h4v-2h6V16H1Z" />
  </svg>`;
}

/** Light, dark, or the system's theme. */
function SchemeMenu() {
  return html`<${Menu} isQuiet isRight label="◐" name="Light or dark">
    <${Segments}
      label="Colors"
      value=${chosenScheme.value}
      options=${{ "": "system", light: "light", dark: "dark" }}
      onChange=${chooseScheme}
    />
  <//>`;
}

function clickOn(selector) {
  document.querySelector(selector)?.click();
}

function focusOn(selector) {
  document.querySelector(selector)?.focus();
}

function keysOf(rows) {
  return rows.map((row) => row.key);
}

function titleOf({ view, session }) {
  const id = data.row(session)?.id.slice(0, 8);
  const part = { compare: "Compare", explore: "Explore", sweep: "Sweep", session: id }[view];
  return [part, namesOf(data.files.value) || "casket"].filter(Boolean).join(" · ");
}

function namesOf(files) {
  return files.map(({ name }) => name).join(", ");
}

effect(() => {
  document.title = titleOf(state.value);
});

// A failure to load is reported where the condition is needed.
if (state.peek().where) await loadLanguage();
data.start();
render(html`<${PageGuard}><${App} /><//>`, /** @type {HTMLElement} */ (document.getElementById("app")));
