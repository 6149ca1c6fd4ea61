import { useState } from "preact/hooks";

import { Menu } from "casket/shell/controls";
import { html } from "casket/shell/html";
import { Icon } from "casket/shell/icons";

/** Views under names of their own, kept by this browser for these files. */
export function SavedViews({ place }) {
  const key = `casket views ${place}`;
  const [views, setViews] = useState(() => stored(key));
  const [name, setName] = useState("");
  const [problem, setProblem] = useState("");
  const keep = (list) => {
    setViews(list);
    setProblem(store(key, list));
  };
  const save = (event) => {
    event.preventDefault();
    const title = name.trim();
    if (!title) return;
    keep([...views.filter((view) => view.name !== title), { name: title, hash: location.hash }]);
    setName("");
  };
  return html`<${Menu} label="Views" isRight>
    <div class="chooser">
      <h2>Saved views</h2>
      ${views.length === 0 &&
      html`<p class="hint">What the address says can be kept under a name.</p>`}
      <ul>
        ${views.map(
          (view) => html`<li key=${view.name}>
            <a class="cut" href=${view.hash || "#"}>${view.name}</a>
            <button
              type="button"
              class="quiet"
              aria-label=${`Remove the view ${view.name}`}
              onClick=${() => keep(views.filter((other) => other !== view))}
            >
              <${Icon} name="close" />
            </button>
          </li>`,
        )}
      </ul>
      <form onSubmit=${save}>
        <input
          type="text"
          aria-label="Name of this view"
          placeholder="name of this view"
          value=${name}
          onInput=${(event) => setName(event.target.value)}
        />
        <button>Save</button>
      </form>
      ${problem && html`<p class="trouble">${problem}</p>`}
    </div>
  <//>`;
}

function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "[]");
  } catch {
    return [];
  }
}

function store(key, views) {
  try {
    localStorage.setItem(key, JSON.stringify(views));
    return "";
  } catch {
    return "This browser keeps nothing for this page; save the address as a bookmark.";
  }
}
