import { format } from "casket/model/address";
import { spokenName } from "casket/model/spoken";
import { state } from "casket/model/view";
import { html } from "casket/shell/html";

/** A link to the page of a session, by the beginning of its id, with the color of its curves. */
export function SessionLink({ row, color }) {
  const name = spokenName(row.id);
  return html`<a
    class="session-link"
    href=${sessionAddress(row.key)}
    title=${`${row.id} of ${row.experiment} / ${row.model}`}
  >
    ${color && html`<span class="swatch" style=${{ background: color }} aria-hidden="true" />`}
    ${name}
  </a>`;
}

/** Returns the address of the page of a session, which leaves the other views as they are. */
function sessionAddress(key) {
  return format({ ...state.value, view: "session", session: key }) || "#";
}
