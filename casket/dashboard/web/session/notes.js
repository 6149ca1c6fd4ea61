import { data, source } from "casket/model/page";
import { html } from "casket/shell/html";
import { useState } from "preact/hooks";

/** Unsent drafts of notes, by session; kept while the page is open. */
const drafts = new Map();

/** The note and the tags of a session; they can be changed where the server lets the page write. */
export function Notes({ row }) {
  const write = async (change) => {
    const written = await source.annotate(row.key, change);
    data.takeRows([written]);
    return written;
  };
  if (!source.isEditable && !row.note && !row.tags.length) return null;
  return html`<section class="notes" aria-label="Note and tags">
    ${source.isEditable
      ? html`<${Tags} row=${row} write=${write} /><${Note} row=${row} write=${write} />`
      : html`<p>${row.tags.map((tag) => html`<span class="chip" key=${tag}>${tag}</span> `)}</p>
          ${row.note && html`<p class="note">${row.note}</p>`}`}
  </section>`;
}

function Tags({ row, write }) {
  const [tag, setTag] = useState("");
  const [said, attempt] = useAttempt();
  const add = (event) => {
    event.preventDefault();
    if (!tag.trim()) return;
    attempt(async () => {
      await write({ add: [tag.trim()] });
      return `Tagged ${tag.trim()}.`;
    });
    setTag("");
  };
  const remove = (old) =>
    attempt(async () => {
      const { tags } = await write({ remove: [old] });
      return tags.includes(old) ? `${old} is a tag of the whole experiment.` : `${old} is gone.`;
    });
  return html`<div class="bar">
      ${row.tags.map(
        (own) => html`<button type="button" class="chip" key=${own}
          aria-label=${`Remove the tag ${own}`} onClick=${() => remove(own)}>
          ${own} <span aria-hidden="true">×</span>
        </button>`,
      )}
      <form onSubmit=${add}>
        <label>tag <input value=${tag} onInput=${(event) => setTag(event.target.value)} /></label>
        ${" "}<button type="submit">Add</button>
      </form>
    </div>
    <p role="status">${said}</p>`;
}

function Note({ row, write }) {
  const [drawn, drawAgain] = useState(0);
  const [said, attempt] = useAttempt();
  const draft = drafts.get(row.key);
  const isDraft = draft !== undefined;
  const keep = (text) => {
    keepDraft(row.key, text === row.note ? undefined : text);
    drawAgain(drawn + 1);
  };
  const save = (event) => {
    event.preventDefault();
    attempt(async () => {
      await write({ note: draft });
      if (drafts.get(row.key) === draft) keepDraft(row.key, undefined);
      return "The note is written.";
    });
  };
  return html`<form onSubmit=${save}>
    <label class="note-field">
      note
      <textarea
        rows="2"
        value=${draft ?? row.note}
        onInput=${(event) => keep(event.target.value)}
      />
    </label>
    <div class="bar">
      <button type="submit" disabled=${!isDraft}>Write the note</button>
      ${isDraft &&
      html`<button type="button" onClick=${() => keep(row.note)}>Drop the change</button>`}
      <p role="status">${said || (isDraft && "Not written yet.")}</p>
    </div>
  </form>`;
}

/**
 * Returns the state of the last attempt to write, and a function that writes.
 *
 * @returns {[string, (writing: () => Promise<string>) => Promise<void>]}
 */
function useAttempt() {
  const [said, setSaid] = useState("");
  const attempt = async (writing) => {
    setSaid("");
    try {
      setSaid(await writing());
    } catch (error) {
      setSaid(`Not written: ${error.message}`);
    }
  };
  return [said, attempt];
}

function keepDraft(key, text) {
  if (text === undefined) drafts.delete(key);
  else drafts.set(key, text);
  // Browsers keep no page at hand that listens for this, so it does only while there is need.
  if (drafts.size) addEventListener("beforeunload", askFirst);
  else removeEventListener("beforeunload", askFirst);
}

function askFirst(event) {
  event.preventDefault();
}
