import { Component } from "preact";

import { atFirst } from "casket/address";
import { html } from "casket/html";

const FIRST = `from casket import Experiment as E
model = E.use("PLACE", exp_id="first").model("net")
with model.session({"lr": 0.01}) as session: session.add_epoch(1, {"loss": 0.5})`;

/** What is to be said of files and connection above everything else. */
export function Banners({ data }) {
  const troubled = data.files.filter(({ state }) => state === "broken" || state === "lost");
  return html`
    ${data.connection === "lost" &&
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
        ${" "}${/[.!?]$/.test(error) ? error : `${error}.`}
        ${state === "lost" && " What was read before is shown; it is tried again by itself."}
      </p>`,
    )}
  `;
}

/** Stands round a view: where that fails, it says so, and the rest of the page goes on. */
export class Guard extends Component {
  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidCatch(error) {
    console.error(error);
  }

  componentDidUpdate(before) {
    if (this.state.error && before.state !== this.props.state) this.setState({ error: null });
  }

  render() {
    const { children, state, update } = this.props;
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

/** Stands where there are no sessions to show, and says why. */
export function NoSessions({ data }) {
  if (data.state === "failed") {
    return html`<div class="state" role="alert">
      <h2>No answer</h2>
      <p>${data.error}</p>
      <p>This page tries again by itself.</p>
    </div>`;
  }
  if (data.state === "asking" || data.files.some(({ state }) => state === "reading")) {
    return html`<div class="state" role="status">
      <h2>Reading ${data.files.map(({ name }) => name).join(", ")}…</h2>
      <p>Sessions appear as they are read.</p>
    </div>`;
  }
  if (data.files.length && data.files.every(({ state }) => state === "broken")) {
    return html`<div class="state"><h2>Nothing to show</h2>
      <p>The page goes on by itself when the file can be read.</p>
    </div>`;
  }
  const place = data.files[0]?.place ?? "runs.json";
  return html`<div class="state">
    <h2>No sessions yet</h2>
    <p>Log the first one, and it appears here:</p>
    <pre tabindex="0">${FIRST.replace("PLACE", place)}</pre>
  </div>`;
}

/** Stands where the filter fits nothing. */
export function NothingFits({ where, update, varying }) {
  return html`<div class="state small" role="status">
    <p><strong>Nothing fits</strong> <code>${where}</code></p>
    <p>
      Names are those of the columns, such as${" "}
      ${varying.slice(0, 3).map((name) => html`<code>${name}</code> `)}
      <code>status</code> <code>tags</code>.
    </p>
    <button type="button" onClick=${() => update({ where: "" })}>Clear the filter</button>
  </div>`;
}
