import { format } from "casket/model/address";
import { html } from "casket/shell/html";

/** A link to the page of a session, by the beginning of its id, with the colour of its curves. */
export function SessionLink({ row, state, colour }) {
  const name = row.id.slice(0, 8);
  return html`<a
    class="session-link"
    href=${sessionAddress(state, row.key)}
    title=${`${row.id} of ${row.experiment} / ${row.model}`}
  >
    ${colour && html`<span class="swatch" style=${{ background: colour }} aria-hidden="true" />`}
    ${name}
  </a>`;
}

/** Returns the address of the page of a session, which leaves the other views as they are. */
export function sessionAddress(state, key) {
  return format({ ...state, view: "session", session: key }) || "#";
}
