import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { SETTINGS, bestValues, cellOfGroup, headOf, isMetric } from "casket/model/arrange";
import { better, digitsApart, shown, shownTime, valueOf, withMargin } from "casket/model/facts";
import * as listing from "casket/model/listing";
import { cursor } from "casket/model/page";
import { shortNames, state, update } from "casket/model/view";
import { Chips, chipsOf } from "casket/sessions/chips";
import { CurveOf } from "casket/sessions/sparkline";
import { contextOf, html, useElement } from "casket/shell/html";
import { Icon } from "casket/shell/icons";
import { painted } from "casket/shell/marks";
import { colorOf, isCoarse } from "casket/shell/paint";

const SPARE = 12;
const SAMPLE = 150;
const LEAST_LEAD = 246;
/** Pixels of the first column that are no name: its controls and gaps. */
const LEAD_CONTROLS = 128;
const LEAD_SHARE = 0.28;
const HASH_SIZE = 8;
/** Pixels of the curve beside a value. */
const CURVE = 68;
const MOST_WIDE = 420;
const ruler = contextOf(document.createElement("canvas"));

/**
 * The sessions, or groups of them, a row each; only rows that are seen are in the document.
 */
export function Table() {
  const items = listing.items.value;
  const rows = listing.rows.value;
  const columns = listing.columns.value;
  const drawn = listing.drawn.value;
  const isHeld = listing.isHeld.value;
  const { selected: chosen, pinned, group } = state.value;
  /** @type {{current: HTMLElement}} */
  const scroller = useElement();
  const anchor = useRef("");
  const [active, setActive] = useState("");
  const [place, setPlace] = useState({ top: 0, height: 600 });
  const hasGroups = Boolean(items[0]?.group);
  const isTree = items.some(canOpen);
  const rowHeight = isCoarse ? 42 : 32;
  const curved = `best.${listing.goal.value}`;
  const digits = useMemo(() => digitsOf(columns, rows), [rows, columns]);
  const widths = useMemo(
    () => widthsOf(columns, rows, items, digits, curved),
    [columns, rows.length, hasGroups, digits, curved],
  );
  const lead = useMemo(() => leadOf(items), [items.length, rows.length, hasGroups]);
  const best = useMemo(() => bestValues(rows, columns), [rows, columns]);
  const places = useMemo(() => placesOf(columns, rows, digits), [rows, columns, digits]);
  const index = items.findIndex((item) => item.key === active);

  useLayoutEffect(() => {
    const box = scroller.current;
    const look = () => setPlace({ top: box.scrollTop, height: box.clientHeight });
    const watcher = new ResizeObserver(look);
    watcher.observe(box);
    box.addEventListener("scroll", look, { passive: true });
    return () => {
      watcher.disconnect();
      box.removeEventListener("scroll", look);
    };
  }, []);
  useEffect(() => {
    painted("table");
  }, [items]);

  const first = Math.max(0, Math.floor(place.top / rowHeight) - SPARE);
  const last = Math.min(items.length, Math.ceil((place.top + place.height) / rowHeight) + SPARE);

  const go = (to) => {
    const item = items[Math.min(Math.max(to, 0), items.length - 1)];
    if (!item) return;
    setActive(item.key);
    cursor.lift(item.key);
    bringIntoView(scroller.current, items.indexOf(item), rowHeight);
  };
  const select = (item, isRange) => {
    const keys = isRange ? between(items, anchor.current, item.key) : keysOf(item);
    anchor.current = item.key;
    update({ selected: isRange ? union(chosen, keys) : toggled(chosen, keys) });
  };
  const acts = {
    select,
    eye: (item) => update(eyed(item, state.peek(), drawn)),
    pin: (item) => update({ pinned: toggled(pinned, keysOf(item)) }),
    open: (item) => (item.row ? update({ view: "session", session: item.key }) : acts.expand(item)),
    expand: (item) => canOpen(item) && listing.expand(item.key),
  };

  const onClick = (event) => {
    const at = event.target.closest("[data-index]");
    const item = at && items[Number(at.dataset.index)];
    if (!item || String(getSelection())) return;
    setActive(item.key);
    const act = event.target.closest("[data-act]")?.dataset.act ?? "select";
    if (act === "open" && (event.ctrlKey || event.metaKey)) return;
    // A checkbox whose click is prevented returns to its previous state, even if drawn meanwhile.
    if (event.target.type !== "checkbox") event.preventDefault();
    if (act === "select" && item.group && !event.target.closest("[data-act]")) acts.expand(item);
    else acts[act](item, event.shiftKey);
  };
  const onKeyDown = (event) => {
    if (event.target !== scroller.current || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(place.height / rowHeight) - 2);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    const item = items[index];
    const keys = {
      Home: () => go(0),
      End: () => go(items.length - 1),
      Enter: () => item && acts.open(item),
      " ": () => item && acts.select(item, event.shiftKey),
      x: () => item && acts.select(item),
      X: () => item && acts.select(item, true),
      p: () => item && acts.pin(item),
      h: () => item && acts.eye(item),
      ArrowRight: () => item && !item.isOpen && acts.expand(item),
      ArrowLeft: () => item?.isOpen && acts.expand(item),
    };
    const step = steps[event.key] ?? (event.key.startsWith("Arrow") && steps[event.key]);
    if (step) {
      go(index + step);
      if (event.shiftKey && items[index + step]) select(items[index + step], true);
    } else if (Object.hasOwn(keys, event.key)) keys[event.key]();
    else return;
    event.preventDefault();
  };
  const onPointerOver = (event) => {
    const at = event.target.closest?.("[data-index]");
    cursor.lift(at ? items[Number(at.dataset.index)]?.key ?? "" : "");
  };

  const grid = `${lead}px ${widths.map((width) => `minmax(${width}px, ${width}fr)`).join(" ")}`;
  const total = lead + widths.reduce((sum, width) => sum + width, 0);
  const selected = useMemo(() => new Set(chosen), [chosen]);
  const context = {
    columns, best, digits, places, selected, drawn, pinned, isGrouped: group.length > 0,
    curved: hasGroups ? "" : curved,
  };
  return html`<div
    class=${isHeld ? "table is-held" : "table"}
    role=${isTree ? "treegrid" : "grid"}
    aria-label="Sessions"
    aria-rowcount=${items.length + 1}
    aria-colcount=${columns.length + 1}
    aria-multiselectable="true"
    aria-activedescendant=${index >= first && index < last ? `row-${index}` : undefined}
    tabindex="0"
    ref=${scroller}
    style=${{ "--grid": grid, "--row": `${rowHeight}px`, "--total": `${total}px` }}
    onMouseDown=${(event) => event.shiftKey && event.preventDefault()}
    onClick=${onClick}
    onKeyDown=${onKeyDown}
    onPointerOver=${onPointerOver}
    onPointerLeave=${() => cursor.lift("")}
    onDblClick=${(event) => {
      const at = event.target.closest("[data-index]");
      if (at && !event.target.closest("[data-act]")) acts.open(items[Number(at.dataset.index)]);
    }}
  >
    <${Head} ...${{ columns, rows, items }} />
    <div
      role="rowgroup"
      class="rows"
      style=${{ height: `${items.length * rowHeight}px` }}
    >
      ${items.slice(first, last).map((item, i) => {
        const at = first + i;
        return html`<${Row}
          key=${item.key}
          ...${{ item, context }}
          at=${at}
          top=${at * rowHeight}
          isActive=${item.key === active}
        />`;
      })}
    </div>
  </div>`;
}

function Head({ columns, rows, items }) {
  const { selected, sort } = state.value;
  const keys = useMemo(() => rows.map((row) => row.key), [rows]);
  const isAll = keys.length > 0 && selected.length >= keys.length;
  const [dragged, drag] = useState("");
  const drop = (onto) => {
    if (!dragged || dragged === onto) return;
    const rest = columns.filter((name) => name !== dragged);
    const isRightwards = columns.indexOf(dragged) < columns.indexOf(onto);
    rest.splice(rest.indexOf(onto) + Number(isRightwards), 0, dragged);
    update({ columns: rest });
  };
  return html`<div role="rowgroup" class="head">
    <div role="row" aria-rowindex="1" class="line">
      <div role="columnheader" class="cell lead" aria-colindex="1">
        <input
          type="checkbox"
          aria-label="Select all sessions that fit"
          checked=${isAll}
          onChange=${() => update({ selected: isAll ? [] : keys })}
        />
        <${SortButton}
          name="id"
          text=${items[0]?.group ? "group" : "session"}
        />
      </div>
      ${columns.map(
        (name, i) => html`<div
          role="columnheader"
          key=${name}
          class=${`cell${isRight(name, rows) ? " number" : ""}`}
          aria-colindex=${i + 2}
          aria-sort=${sortOf(name, sort)}
          draggable="true"
          onDragStart=${() => drag(name)}
          onDragOver=${(event) => event.preventDefault()}
          onDrop=${() => drop(name)}
        >
          ${name === SETTINGS
            ? html`<span class="plain cut">${headOf(name)}</span>`
            : html`<${SortButton} name=${name} text=${headAmong(name, columns)} />`}
        </div>`,
      )}
    </div>
  </div>`;
}

/** Returns the words of a column's head, distinct from a metric of the same name. */
function headAmong(name, columns) {
  const isTwice = columns.some((other) => other !== name && headOf(other) === headOf(name));
  return isTwice && name.startsWith("params.") ? `${headOf(name)} (param)` : headOf(name);
}

function SortButton({ name, text }) {
  const { sort } = state.value;
  const order = sortOf(name, sort);
  const start = isMetric(name) && better(name.slice(5)) === "max" ? "-" : "";
  const turned = start ? "" : "-";
  const next = {
    [`${start}${name}`]: `${turned}${name}`,
    [`${turned}${name}`]: "",
  }[sort] ?? `${start}${name}`;
  return html`<button
    type="button"
    class="sort"
    title=${`${name}: click to sort, drag to move`}
    onClick=${(event) => {
      event.stopPropagation();
      update({ sort: next });
    }}
  >
    <span class="cut">${text}</span>
    ${order && html`<${Icon} name=${order === "ascending" ? "up" : "low"} />`}
  </button>`;
}

function Row({ item, context, at, top, isActive }) {
  const { columns, selected, drawn } = context;
  const keys = keysOf(item);
  const isSelected = keys.every((key) => selected.has(key));
  const kinds = ["line", "row", isActive && "is-active", isSelected && "is-selected"];
  if (item.group) kinds.push("is-group");
  if (item.depth) kinds.push("is-inside");
  if (!keys.some((key) => drawn.keys.has(key))) kinds.push("is-faint");
  return html`<div
    role="row"
    id=${`row-${at}`}
    data-index=${at}
    class=${kinds.filter(Boolean).join(" ")}
    aria-rowindex=${at + 2}
    aria-selected=${isSelected}
    aria-expanded=${item.isOpen}
    aria-level=${item.depth ? item.depth + 1 : undefined}
    style=${{ top: `${top}px`, "--depth": item.depth ?? 0 }}
  >
    <${Lead} ...${{ item, context, isSelected, keys }} />
    ${columns.map(
      (name, i) => html`<${Cell} key=${name} ...${{ item, name, context }} column=${i + 2} />`,
    )}
  </div>`;
}

function Lead({ item, context, isSelected, keys }) {
  const { drawn, pinned, isGrouped } = context;
  const isDrawn = keys.some((key) => drawn.keys.has(key));
  const isPinned = keys.every((key) => pinned.includes(key));
  const name = item.row ? shortNames.value.get(item.key) ?? item.row.id : `${item.group.rows.length}`;
  const text = item.row ? item.row.name : `n = ${name}`;
  const colorKey = isGrouped ? drawn.groupOf.get(item.key) ?? item.key : item.key;
  return html`<div role="gridcell" class="cell lead" aria-colindex="1">
    <input
      type="checkbox"
      tabindex="-1"
      data-act="select"
      checked=${isSelected}
      aria-label=${`Select ${text}`}
    />
    <button
      type="button"
      class=${isDrawn ? "quiet eye is-on" : "quiet eye"}
      tabindex="-1"
      data-act="eye"
      aria-pressed=${isDrawn}
      aria-label=${`Draw ${text}`}
      title=${isDrawn ? "Drawn; click to hide (h)" : "Not drawn; click to draw (h)"}
      style=${{ color: isDrawn ? colorOf(colorKey) : "" }}
    >
      <span class="dot" aria-hidden="true"></span>
    </button>
    ${item.row && canOpen(item) &&
    html`<button
      type="button"
      class="quiet opener"
      tabindex="-1"
      data-act="expand"
      aria-expanded=${item.isOpen}
      aria-label=${`Children of ${text}`}
      title="Children (→, ←)"
    >
      <${Icon} name=${item.isOpen ? "open" : "right"} />
    </button>`}
    ${item.row
      ? html`<a
          class="id"
          tabindex="-1"
          data-act="open"
          href=${`#view=session&session=${name}`}
          title=${item.row.id}
        >${text}${" "}<span class="hash">${hashOf(item.row)}</span></a>`
      : html`<button type="button" class="id quiet" tabindex="-1" data-act="expand">
          <${Icon} name=${item.isOpen ? "open" : "right"} />${text}
        </button>`}
    <button
      type="button"
      class=${isPinned ? "quiet pin is-on" : "quiet pin"}
      tabindex="-1"
      data-act="pin"
      aria-pressed=${isPinned}
      aria-label=${`Pin ${text}`}
      title=${isPinned ? "Pinned on top; click to let go (p)" : "Pin on top (p)"}
    >
      <${Icon} name="pin" />
    </button>
  </div>`;
}

function Cell({ item, name, context, column }) {
  if (item.group) {
    const value = cellOfGroup(item.group, name);
    const isInterval = value?.n !== undefined && value?.mean !== undefined;
    const isNumeric = isInterval || typeof value === "number";
    const kind = isNumeric ? "cell number" : "cell";
    return html`<div role="gridcell" class=${kind} aria-colindex=${column}>
      ${isInterval
        ? html`<${Interval} ...${value} of=${item.group.rows.length} />`
        : shownCell(name, value)}
    </div>`;
  }
  const { row } = item;
  if (name === "status") {
    return html`<div role="gridcell" class="cell" aria-colindex=${column}>
      <${Status} status=${row.status} />
    </div>`;
  }
  if (name === SETTINGS) {
    return html`<div role="gridcell" class="cell" aria-colindex=${column}>
      <${Chips} chips=${chipsOf(row, listing.varying.value)} />
    </div>`;
  }
  const value = valueOf(row, name);
  const isBest = context.best.has(name) && value === context.best.get(name);
  const kinds = ["cell", typeof value === "number" && "number", isBest && "is-best"];
  if (name === "tags") {
    return html`<div role="gridcell" class="cell" aria-colindex=${column}>
      ${row.tags.map((tag) => html`<span class="tag">${tag}</span>`)}
    </div>`;
  }
  const text = aligned(shownCell(name, value, context.digits.get(name)), context.places.get(name));
  return html`<div
    role="gridcell"
    class=${kinds.filter(Boolean).join(" ")}
    aria-colindex=${column}
    title=${titleOf(name, value, text, isBest)}
  >
    ${name === context.curved && row.metrics.epoch.includes(name.slice(5)) &&
    html`<${CurveOf} row=${row} metric=${name.slice(5)} color=${context.drawn.keys.has(row.key) ? colorOf(row.key) : ""} />`}
    ${isBest && html`<span class="hidden-word">best: </span>`}${text}
  </div>`;
}

function Interval({ mean, margin, n, of }) {
  const [shownMean, spread] = withMargin(mean, margin).split(" ± ");
  return html`<span title=${`mean ± 95 % interval over ${n} sessions`}>
    ${shownMean}<span class="dim">${spread && ` ± ${spread}`}</span>
    ${n < of && html` <span class="dim">(${n})</span>`}
  </span>`;
}

/** How a session stands, in a word; a dot where it still changes. */
export function Status({ status }) {
  return html`<span class=${`status is-${status}`}>
    ${status === "running" &&
    html`<svg viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="4" /></svg>`}
    ${status === "completed" ? "done" : status}
  </span>`;
}

/** Returns the text of a cell of the table. */
export function shownCell(name, value, digits) {
  if ((name === "started" || name === "ended") && typeof value === "string") {
    return shownTime(value).slice(5, 16);
  }
  return shown(value, name, digits);
}

function titleOf(name, value, text, isBest) {
  if (name === "started" || name === "ended") return value ? `${shownTime(value)} UTC` : undefined;
  if (isBest) return `the best ${headOf(name)}: ${value}`;
  return text.length > 18 || typeof value === "number" ? String(shown(value) && text) : undefined;
}

function sortOf(name, sort) {
  if (sort === name) return "ascending";
  return sort === `-${name}` ? "descending" : undefined;
}

function isRight(name, rows) {
  return rows.slice(0, SAMPLE).some((row) => typeof valueOf(row, name) === "number");
}

/** Returns by column the number of digits that distinguish its numbers. */
function digitsOf(columns, rows) {
  const valuesOf = (name) => rows.map((row) => valueOf(row, name));
  return new Map(columns.map((name) => [name, digitsApart(valuesOf(name))]));
}

function widthsOf(columns, rows, items, digits, curved) {
  const sample = rows.slice(0, SAMPLE);
  const groups = items.filter((item) => item.group).slice(0, SAMPLE);
  return columns.map((name) => {
    const texts = sample.map((row) => shownCell(name, valueOf(row, name), digits.get(name)));
    texts.push(...groups.map((item) => textOfGroup(cellOfGroup(item.group, name), name)));
    if (name === "tags") texts.push(...sample.map((row) => row.tags.join("WW") + "WW"));
    if (name === "status") texts.push("● running");
    if (name === SETTINGS) texts.push(...sample.map(textOfChips));
    const longest = texts.reduce((a, b) => (b.length > a.length ? b : a), "");
    const room = name === curved && !groups.length ? CURVE : 0;
    const width = Math.max(widthOf(longest) + 24 + room, widthOf(headAmong(name, columns)) + 36);
    return Math.round(Math.min(width, MOST_WIDE));
  });
}

/** Returns the width of the first column, in which names are whole if the window is wide enough. */
function leadOf(items) {
  const rows = items.slice(0, SAMPLE).flatMap((item) => item.row ?? []);
  const widest = Math.max(0, ...rows.map((row) => widthOf(row.name) + hashOf(row).length * HASH_SIZE));
  const most = Math.max(LEAST_LEAD, LEAD_SHARE * innerWidth);
  return Math.round(Math.min(Math.max(LEAST_LEAD, LEAD_CONTROLS + widest), most));
}

/** Returns the beginning of the id that is shown beside the name. */
function hashOf(row) {
  return row.id.slice(0, Math.max(6, (shortNames.peek().get(row.key) ?? row.id).length));
}

function textOfChips(row) {
  const chips = chipsOf(row, listing.varying.peek());
  return chips.map(({ short, text, isWord }) => `${isWord ? "" : `${short} `}${text}W`).join("");
}

/** Returns by column of metrics how many decimals its numbers have at most. */
function placesOf(columns, rows, digits) {
  const most = (name) =>
    rows.reduce((places, row) => {
      const text = shownCell(name, valueOf(row, name), digits.get(name));
      return Math.max(places, decimalsOf(text));
    }, 0);
  return new Map(columns.filter(isMetric).map((name) => [name, most(name)]));
}

function decimalsOf(text) {
  return /^-?\d+\.(\d+)$/.exec(text)?.[1].length ?? 0;
}

/** Returns a number with as many decimals as others of its column: digits stand under digits. */
function aligned(text, places = 0) {
  if (!places || !/^-?\d+\.\d+$/.test(text)) return text;
  return text.padEnd(text.indexOf(".") + 1 + places, "0");
}

function widthOf(text) {
  ruler.font = `600 13px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

function bringIntoView(box, index, rowHeight) {
  const top = index * rowHeight;
  const seen = box.clientHeight - rowHeight - 34;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top > box.scrollTop + seen) box.scrollTop = top - seen;
}

/** Returns whether an item is a group or a session with children. */
function canOpen(item) {
  return item.isOpen !== undefined;
}

function keysOf(item) {
  return item.row ? [item.key] : item.group.rows.map((row) => row.key);
}

function toggled(list, keys) {
  const isThere = keys.every((key) => list.includes(key));
  return isThere ? list.filter((key) => !keys.includes(key)) : union(list, keys);
}

function union(list, keys) {
  return [...new Set([...list, ...keys])];
}

function between(items, from, to) {
  const ends = [from, to].map((key) => items.findIndex((item) => item.key === key));
  const [low, high] = ends.map((end) => Math.max(end, 0)).sort((a, b) => a - b);
  return items.slice(low, high + 1).flatMap(keysOf);
}

/** Hides or shows a session in the charts, when its eye is clicked. */
function eyed(item, { hidden, selected, pinned }, drawn) {
  const keys = keysOf(item);
  if (keys.some((key) => drawn.keys.has(key))) return { hidden: union(hidden, keys) };
  const left = hidden.filter((key) => !keys.includes(key));
  if (left.length < hidden.length) return { hidden: left };
  return selected.length ? { selected: union(selected, keys) } : { pinned: union(pinned, keys) };
}

function textOfGroup(value, name) {
  if (value?.mean === undefined) return shownCell(name, value);
  return withMargin(value.mean, value.margin);
}
