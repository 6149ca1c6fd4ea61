import htm from "htm";
import { h } from "preact";

/** Makes elements from a template; text in it is always text, never markup. */
export const html = htm.bind(h);
