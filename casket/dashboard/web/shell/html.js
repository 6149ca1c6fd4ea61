import htm from "htm";
import { h } from "preact";
import { useRef } from "preact/hooks";

/** Makes elements from a template; text in it is always text, never markup. */
export const html = htm.bind(h);

/**
 * A reference to an element that is in the document whenever handlers and effects run.
 *
 * @template {Element} Kind
 * @returns {{current: Kind}}
 */
export function useElement() {
  return useRef(/** @type {any} */ (null));
}

/**
 * Returns the context that draws on a canvas.
 *
 * @param {HTMLCanvasElement} canvas
 */
export function contextOf(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}
