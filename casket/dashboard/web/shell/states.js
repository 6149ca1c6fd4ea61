import { Component } from "preact";

import { atFirst } from "casket/model/address";
import { varying } from "casket/model/listing";
import { data } from "casket/model/page";
import { fields, update } from "casket/model/view";
import { html } from "casket/shell/html";

const filter = fields("where");
const FIRST = `from casket import Experiment as E
model = E.use("PLACE", exp_id="first").model("net")
with model.session({"lr": 0.01}) as session: session.add_epoch(1, {"loss": 0.5})`;

/** Notices about files and the connection, above everything else. */
export function Banners() {
  const troubled = data.files.value.filter(({ state }) => state === "broken" || state === "lost");
  return html`
    ${data.connection.value === "lost" &&
    html`<p class="banner" role="alert">
      <strong>Connection lost.</strong> What you see is from before. Is${" "}
      <code>casket dashboard</code> still running? Start it again if not; this page
      tries again by itself.
    </p>`}
    ${troubled.map(
      ({ name, place, state, error }) => html`<p class="banner" role="alert">
        <strong title=${place}>
          ${name} ${state === "broken" ? "cannot be read." : "is out of reach."}
        </strong>
        ${" "}${/[.!?]$/.test(error ?? "") ? error : `${error}.`}
        ${state === "lost" && " What was read before is shown; it is tried again by itself."}
      </p>`,
    )}
  `;
}

class Catching extends Component {
  state = { error: null };

  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidCatch(error) {
    console.error(error);
  }

  render() {
    return this.props.children;
  }
}

/** Surrounds the whole page: shows its failure, and how to continue. */
export class PageGuard extends Catching {
  render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    const beginAnew = () => {
      history.replaceState(null, "", location.pathname + location.search);
      location.reload();
    };
    return html`<main id="main"><div class="state" role="alert">
      <h2>This page failed</h2>
      <p>${String(error)}</p>
      <p>
        Reload it. If it fails again, what the address says after the # may be the cause: begin
        without that.
      </p>
      <p>
        <button type="button" onClick=${() => location.reload()}>Reload</button>${" "}
        <button type="button" onClick=${beginAnew}>Begin anew</button>
      </p>
    </div></main>`;
  }
}

/** Surrounds a view: shows its failure, while the rest of the page continues to work. */
export class Guard extends Catching {
  componentDidUpdate(before) {
    if (this.state.error && before.state !== this.props.state) this.setState({ error: null });
  }

  render() {
    const { children, state } = this.props;
    const { error } = this.state;
    if (!error) return children;
    return html`<div class="state" role="alert">
      <h2>This view failed</h2>
      <p>${String(error)}</p>
      <p>What the address says of this view may be the cause. The other views can be opened.</p>
      <button type="button" onClick=${() => update(atFirst(state.view))}>
        Begin this view anew
      </button>
    </div>`;
  }
}

/** Shown in place of sessions if there are none, with the reason. */
export function NoSessions() {
  const files = data.files.value;
  if (data.state.value === "failed") {
    return html`<div class="state" role="alert">
      <h2>No answer</h2>
      <p>${data.error.value}</p>
      <p>This page tries again by itself.</p>
    </div>`;
  }
  if (data.state.value === "asking" || files.some(({ state }) => state === "reading")) {
    return html`<div class="state" role="status">
      <h2>Reading ${files.map(({ name }) => name).join(", ")}…</h2>
      <p>Sessions appear as they are read.</p>
    </div>`;
  }
  if (files.length && files.every(({ state }) => state === "broken")) {
    return html`<div class="state"><h2>Nothing to show</h2>
      <p>The page goes on by itself when the file can be read.</p>
    </div>`;
  }
  const place = files[0]?.place ?? "runs.json";
  return html`<div class="state">
    <h2>No sessions yet</h2>
    <p>Log the first one, and it appears here:</p>
    <pre tabindex="0">${FIRST.replace("PLACE", place)}</pre>
  </div>`;
}

/** Stands where the filter fits nothing. */
export function NothingFits() {
  const { where } = filter.value;
  const unread = data.files.value.filter(({ state }) => state === "reading").map(({ name }) => name);
  return html`<div class="state small" role="status">
    <p>
      <strong>Nothing fits${unread.length > 0 && " yet"}</strong> <code>${where}</code>
      ${unread.length > 0 && `; ${unread.join(", ")} is still being read.`}
    </p>
    <p>
      Names are those of the columns, such as${" "}
      ${varying.value.slice(0, 3).map((name) => html`<code>${name}</code> `)}
      <code>status</code> <code>tags</code>.
    </p>
    <button type="button" onClick=${() => update({ where: "" })}>Clear the filter</button>
  </div>`;
}
