import { format } from "casket/model/address";
import { state } from "casket/model/view";
import { html } from "casket/shell/html";

/** A link to the page of a session, by its name, with the color of its curves. */
export function SessionLink({ row, color }) {
  return html`<a
    class="session-link"
    href=${sessionAddress(row.key)}
    title=${`${row.id} of ${row.experiment} / ${row.model}`}
  >
    ${color && html`<span class="swatch" style=${{ color }} aria-hidden="true" />`}
    ${row.name}
  </a>`;
}

/** Returns the address of the page of a session, which leaves the other views as they are. */
function sessionAddress(key) {
  return format({ ...state.value, view: "session", session: key }) || "#";
}
