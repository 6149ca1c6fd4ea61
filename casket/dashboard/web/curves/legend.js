import { useState } from "preact/hooks";

import { cellOfGroup } from "casket/model/arrange";
import { quantileOf } from "casket/curves/align";
import { indexAt, shownX } from "casket/curves/chart";
import { Swatch } from "casket/curves/values";
import { digitsApart, isNumber, shownNumber } from "casket/model/facts";
import * as listing from "casket/model/listing";
import { scoreOf } from "casket/model/metrics";
import { cursor, data, store } from "casket/model/page";
import { SessionLink } from "casket/session/session_link";
import { chipsOf } from "casket/sessions/chips";
import { SMALL } from "casket/sessions/sparkline";
import { paletteOf } from "casket/shell/colors";
import { Menu } from "casket/shell/controls";
import { html } from "casket/shell/html";
import { chooseColor, colorOf, repeatOf, scheme } from "casket/shell/paint";

const MOST = 12;

/** The sessions or groups that are drawn, with the values of the goal where the cursor stands. */
export function Legend({ parts, view, others, isOverMetric }) {
  const at = cursor.now.value.place;
  const place = isOverMetric ? null : at;
  store.arrivals.value; // values at the cursor come with the curves
  const goal = listing.goal.value;
  const read = store.reader(view);
  const values = parts.map((part) => valueOf(part, { goal, place, read }));
  const digits = digitsApart(values.slice(0, MOST));
  const isSessions = parts.every((part) => part.name);
  const total = isSessions ? data.rows.value.length : parts.length;
  const where = place ? `at ${shownX(place.x, view.x)}` : "best";
  return html`<aside class="legend" aria-label="Legend">
    <p class="legend-head">
      <strong>${parts.length.toLocaleString("en")}${isSessions && ` of ${total.toLocaleString("en")}`}</strong>
      ${goal && html`<span class="dim">${goal}, ${where}</span>`}
    </p>
    <ul>
      ${parts.slice(0, MOST).map(
        (part, i) => html`<li
          key=${part.key}
          onPointerEnter=${() => cursor.lift(part.key)}
          onPointerLeave=${() => cursor.lift("")}
        >
          <${ColorMenu} part=${part} />
          <${Name} part=${part} />
          <b>${isNumber(values[i]) ? shownNumber(values[i], digits) : "–"}</b>
        </li>`,
      )}
    </ul>
    ${others.length > 2 &&
    html`<p class="legend-others">
      <span class="swatch-band" aria-hidden="true"></span>
      ${(total - parts.length).toLocaleString("en")} others
      <span class="dim">median, 10–90 %${others.length < total - parts.length && ` of ${others.length}`}</span>
      <b class="dim">${medianOf(others, { goal, place, read: store.reader({ ...SMALL, kind: view.kind, x: view.x }) }, digits)}</b>
    </p>`}
    ${parts.length > MOST &&
    html`<p class="dim">and ${(parts.length - MOST).toLocaleString("en")} more</p>`}
  </aside>`;
}

/** The color of a session or group, and others to choose. */
function ColorMenu({ part: { key, label } }) {
  const [isOpen, open] = useState(false);
  const color = colorOf(key);
  const swatch = html`<${Swatch} color=${color} isDashed=${repeatOf(key) > 0} />`;
  return html`<${Menu} isQuiet isRight label=${swatch} name=${`Color of ${label}`}
    onOpen=${() => open(true)}>
    ${isOpen &&
    html`<div class="palette" role="group" aria-label=${`Colors for ${label}`}>
      ${paletteOf(scheme.value).map(
        (each, slot) => html`<button
          type="button"
          class="color"
          key=${slot}
          aria-label=${`Color ${slot + 1}`}
          aria-pressed=${each === color}
          style=${{ background: each }}
          onClick=${() => chooseColor(key, slot)}
        ></button>`,
      )}
      <button type="button" class="by-id" onClick=${() => chooseColor(key, null)}>
        Reset
      </button>
    </div>`}
  <//>`;
}

function Name({ part }) {
  const [row] = part.rows;
  if (!part.name) return html`<span class="cut" title=${part.label}>${part.label}</span>`;
  const texts = chipsOf(row, listing.varying.value).map(({ text }) => text);
  return html`<span class="cut" title=${part.label}>
    <${SessionLink} row=${row} /><span class="dim">${" "}${texts.join(" · ")}</span>
  </span>`;
}

function medianOf(others, given, digits) {
  const values = others.map((row) => valueOf({ rows: [row], name: row.name }, given));
  const sorted = values.filter(isNumber).sort((a, b) => a - b);
  return sorted.length ? shownNumber(quantileOf(sorted, 0.5), digits) : "–";
}

function valueOf(part, { goal, place, read }) {
  const [row] = part.rows;
  if (!goal) return undefined;
  if (!part.name) return cellOfGroup({ ...part, names: [], values: [] }, `best.${goal}`)?.mean;
  if (!place) return scoreOf(row, goal);
  const curve = read(row.key, goal);
  const at = curve && indexAt(curve, place.x);
  return at === undefined ? undefined : curve.ys[at];
}
