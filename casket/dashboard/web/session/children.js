import { flatten, isNumber, restored, shown, valueOf } from "casket/model/facts";
import { data } from "casket/model/page";
import { SessionLink } from "casket/session/session_link";
import { Status } from "casket/sessions/table";
import { html } from "casket/shell/html";

/** A link to the session that a session is a child of. */
export function Parent({ row }) {
  const parent = data.parentOf(row);
  return parent && html`<p>child of <${SessionLink} row=${parent} /></p>`;
}

/** The children of a session: their additional params, and their latest metrics. */
export function Children({ row }) {
  const children = data.childrenOf(row.key);
  if (!children.length) return null;
  const params = namesOf(children, "params").filter(
    (name) => !Object.hasOwn(flatten(row.params, "params."), name),
  );
  const metrics = namesOf(children, "last").filter((name) =>
    children.some((child) => isNumber(valueOf(child, name))),
  );
  const names = [...params, ...metrics];
  return html`<section class="card" aria-label="Children">
    <h2>Children <small class="muted">${children.length}</small></h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Children: table">
      <table class="plain-table">
        <thead>
          <tr>
            <th scope="col">session</th>
            <th scope="col">status</th>
            ${names.map((name) => html`<th scope="col" key=${name}>${name.replace(/^\w+\./, "")}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${children.map((child) => html`<tr key=${child.key}>
            <th scope="row"><${SessionLink} row=${child} /></th>
            <td><${Status} status=${child.status} /></td>
            ${names.map((name) => html`<td class="number" key=${name}>${textOf(child, name)}</td>`)}
          </tr>`)}
        </tbody>
      </table>
    </div>
  </section>`;
}

function namesOf(rows, group) {
  return [...new Set(rows.flatMap((row) => Object.keys(flatten(row[group], `${group}.`))))];
}

function textOf(row, name) {
  return shown(restored(valueOf(row, name)), name);
}
