// The system metrics of a session, as small curves.

import { shownDuration, shownNumber, shownSize } from "casket/model/facts";
import { html } from "casket/shell/html";

const [WIDTH, HEIGHT] = [240, 48];
const TITLES = {
  cpu_percent: "CPU, machine",
  memory_bytes: "memory, machine",
  process_cpu_percent: "CPU, process",
  process_memory_bytes: "memory, process",
  disk_read_bytes: "disk, read",
  disk_write_bytes: "disk, written",
  network_sent_bytes: "network, sent",
  network_received_bytes: "network, received",
};

/** Small curves of the machine and the process over the time of a session. */
export function System({ system }) {
  if (!system) return null;
  const { seconds, values } = system;
  return html`<section class="card" aria-label="System">
    <h2>System <small class="muted">${Object.keys(values).length}</small></h2>
    <p class="muted">over ${shownDuration(seconds.at(-1) - seconds[0])}</p>
    <div class="system">
      ${Object.entries(values).map(
        ([name, numbers]) => html`<${Small} key=${name} ...${{ name, seconds, numbers }} />`,
      )}
    </div>
  </section>`;
}

function Small({ name, seconds, numbers }) {
  const here = numbers.filter((number) => number !== null);
  const unit = unitOf(name);
  const highest = Math.max(...here);
  const said = `last ${unit(here.at(-1))}, highest ${unit(highest)}`;
  const title = TITLES[name] ?? name.replaceAll("_", " ");
  return html`<figure>
    <figcaption><strong>${title}</strong>${" "}<span class="muted">${said}</span></figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
      aria-label=${`${title}: ${said}`}>
      <polyline points=${pointsOf(seconds, numbers, topOf(name, highest))} />
    </svg>
  </figure>`;
}

function unitOf(name) {
  if (name.endsWith("_bytes")) return shownSize;
  const mark = { percent: " %", watts: " W", celsius: " °C" }[name.split(/[._]/).at(-1)] ?? "";
  return (value) => `${shownNumber(value, 3)}${mark}`;
}

/** Returns the value at the upper edge; shares of the machine are comparable among each other. */
function topOf(name, highest) {
  return name.endsWith("percent") ? Math.max(highest, 100) : highest || 1;
}

function pointsOf(seconds, numbers, top) {
  const [start, extent] = [seconds[0], seconds.at(-1) - seconds[0] || 1];
  const points = seconds.map((second, i) => [(second - start) / extent, numbers[i]]);
  // A single point is drawn as a line.
  const drawn = points.length > 1 ? points : [points[0], [1, numbers[0]]];
  return drawn
    .filter(([, number]) => number !== null)
    .map(([x, y]) => `${(x * WIDTH).toFixed(1)},${((1 - y / top) * (HEIGHT - 2) + 1).toFixed(1)}`)
    .join(" ");
}
