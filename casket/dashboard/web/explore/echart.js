// Charts drawn by ECharts, which is loaded when the first of them is shown.

import { html } from "casket/shell/html";
import { resolved, scheme as systemScheme } from "casket/shell/paint";
import { useEffect, useRef, useState } from "preact/hooks";

const NAMES = ["text", "muted", "line", "surface", "accent", "good", "bad", "warn"];
const LIGHT_SCALE = ["#b9a52b", "#4f9d5f", "#23758c", "#3b3f86", "#3a0f54"];
const DARK_SCALE = ["#5c55c9", "#3f8fd0", "#35b39a", "#9fd356", "#fbe94b"];

/**
 * A chart of ECharts. `option` is a function of the colors; `on` maps events to handlers, which
 * receive the chart as second argument; `onReady` receives the chart whenever it is redrawn.
 */
export function EChart({ option, on = {}, onReady, label, height = 320 }) {
  // State, not a reference: Preact clears references before it cleans up effects after painting.
  const [element, setElement] = useState(/** @type {HTMLElement | null} */ (null));
  const [chart, setChart] = useState(/** @type {any} */ (null));
  const actions = useRef(on);
  const [problem, setProblem] = useState("");
  const scheme = systemScheme.value;
  actions.current = on;

  useEffect(() => {
    if (!element) return undefined;
    let isGone = false;
    let made = /** @type {any} */ (null);
    const observer = new ResizeObserver(() => made?.resize());
    import("echarts").then(
      (echarts) => {
        if (isGone) return;
        made = echarts.init(element);
        for (const name of Object.keys(actions.current)) {
          // Within its own event, the chart must not be drawn anew or removed.
          const act = (event) => !isGone && actions.current[name](event, made);
          made.on(name, (event) => setTimeout(act, 0, event));
        }
        observer.observe(element);
        setChart(made);
      },
      () => setProblem("The chart's library could not be loaded; reload the page."),
    );
    return () => {
      isGone = true;
      observer.disconnect();
      made?.dispose();
      setChart(null);
    };
  }, [element]);

  useEffect(() => {
    if (!chart) return;
    chart.setOption({ ...basics(scheme), ...option(colors(scheme)) }, { notMerge: true });
    onReady?.(chart);
  }, [chart, option, scheme]);

  return html`<div class="echart-frame">
    <div
      class="echart"
      ref=${setElement}
      role="img"
      aria-label=${label}
      style=${{ height: `${height}px` }}
    />
    ${problem && html`<p role="alert">${problem}</p>`}
  </div>`;
}

/** Returns the style of an axis. */
export function axis(color, name, more = {}) {
  return {
    name: clipped(name, 60),
    nameLocation: "middle",
    nameGap: 32,
    nameTextStyle: { color: color.text },
    axisLabel: { color: color.muted, hideOverlap: true },
    axisLine: { lineStyle: { color: color.line } },
    splitLine: { lineStyle: { color: color.line, opacity: 0.6 } },
    ...more,
  };
}

/** Returns text cut to a length, never a name of JavaScript's own properties. */
export function clipped(text, length = 40) {
  const signs = Array.from(String(text));
  const cut = signs.length > length ? `${signs.slice(0, length - 1).join("")}…` : signs.join("");
  return cut in Object.prototype ? `${cut} ` : cut;
}

/** Returns the settings of an axis of categories, which ECharts knows by number only. */
export function categoryAxis(categories, length) {
  const label = (number) => clipped(categories[Number(number)] ?? "", length);
  return { type: "category", data: categories.map((_, i) => String(i)), label };
}

/** Returns the style of tooltips: text, never markup. */
export function tooltip(color, formatter) {
  return {
    renderMode: "richText",
    confine: true,
    formatter,
    backgroundColor: color.surface,
    borderColor: color.line,
    textStyle: { color: color.text, fontSize: 12 },
  };
}

function basics(scheme) {
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  return { darkMode: scheme === "dark", animation: !isStill, animationDuration: 150 };
}

function colors(scheme) {
  const named = NAMES.map((name) => [name, resolved(`--${name}`)]);
  const isDark = scheme === "dark";
  return {
    ...Object.fromEntries(named),
    scale: isDark ? DARK_SCALE : LIGHT_SCALE,
  };
}
