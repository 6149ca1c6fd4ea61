import { html } from "casket/shell/html";

const PATHS = {
  eye:
    "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8Z " +
    "M8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  "eye-off":
    "M2 2l12 12 M6.2 4A6.5 6.5 0 0 1 8 3.7C12 3.7 14.5 8 14.5 8a12 12 0 0 1-2 2.4 " +
    "M4 5.2A12 12 0 0 0 1.5 8S4 12.3 8 12.3a6 6 0 0 0 2.2-.4",
  pin: "M6 2h4l-.5 4.5L12 9H4l2.5-2.5L6 2Z M8 9v5",
  down: "M8 2.5v8 M4.5 7.5 8 11l3.5-3.5 M3 13.5h10",
  close: "M4 4l8 8 M12 4l-8 8",
  right: "M6 3.5 10.5 8 6 12.5",
  open: "M3.5 6 8 10.5 12.5 6",
  wide: "M9.5 2.5h4v4 M6.5 13.5h-4v-4 M13.5 2.5 9 7 M2.5 13.5 7 9",
  up: "M8 13V3 M4 7l4-4 4 4",
  low: "M8 3v10 M4 9l4 4 4-4",
  star: "M8 2l1.8 3.8 4.2.5-3.1 2.9.8 4.1L8 11.3l-3.7 2 .8-4.1L2 6.3l4.2-.5L8 2Z",
};

/** A small picture beside or instead of a word; the label around it must give its meaning. */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
    <path d=${PATHS[name]} />
  </svg>`;
}
