// Three small charts: curves of the last minutes. uPlot is a script of its own, `window.uPlot`.

const KEEP = 300; // points
const HEIGHT = 130;
const MIN_SPAN_S = 60;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (value) => (value >= 1e6 ? `${+(value / 1e6).toFixed(1)}M` : value >= 1000 ? `${+(value / 1000).toFixed(1)}k` : `${+value.toFixed(2)}`);
const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

class Chart {
  #plot = null;
  #element;
  #names;
  #columns;

  constructor(element, names) {
    this.#element = element;
    this.#names = names;
    this.#columns = [[], ...names.map(() => [])];
    new ResizeObserver(([{ contentRect }]) => this.#plot?.setSize({ width: Math.floor(contentRect.width), height: HEIGHT })).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#plot?.redraw());
  }

  start(columns) {
    this.#columns = columns.map((column) => column.slice(-KEEP));
    this.#show();
  }

  // Times that are not newer are known: several ways lead here.
  add(seconds, ...values) {
    const times = this.#columns[0];
    if (times.length && seconds - times.at(-1) < 0.5) return;
    [seconds, ...values].forEach((value, index) => this.#columns[index].push(value));
    if (times.length > KEEP) this.#columns.forEach((column) => column.shift());
    this.#show();
  }

  #show() {
    if (this.#columns[0].length < 2) return;
    this.#plot ??= new window.uPlot(this.#options(), [[], ...this.#names.map(() => [])], this.#element);
    this.#plot.setData(this.#columns);
  }

  #options() {
    const axis = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    return {
      width: Math.max(100, Math.floor(this.#element.clientWidth)),
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 8, 0, 0],
      scales: { x: { range: (_, first, last) => [Math.min(first, last - MIN_SPAN_S), last] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, space: 90, values: (_, ticks) => ticks.map(time), size: 24 },
        { ...axis, size: 46, space: 36, values: (_, ticks) => ticks.map(short) },
      ],
      series: [{}, ...this.#names.map((name, index) => ({
        label: name,
        stroke: () => colour(index ? "--second" : "--accent"),
        width: 2,
        points: { show: false },
      }))],
    };
  }
}

export class Charts {
  constructor() {
    const at = (name) => document.getElementById(`chart-${name}`);
    this.connections = new Chart(at("connections"), ["connections"]);
    this.rates = new Chart(at("rates"), ["deliveries", "messages in"]);
    this.latency = new Chart(at("latency"), ["p50", "p99"]);
  }

  start({ time, connections, deliveries, publications }) {
    this.connections.start([time, connections]);
    this.rates.start([time, deliveries, publications]);
  }

  add(state) {
    this.connections.add(state.time, state.connections);
    if (state.rates) this.rates.add(state.time, state.rates.deliveries, state.rates.publications);
    const broadcast = state.latency.find(({ operation }) => operation === "broadcast");
    document.getElementById("chart-latency").hidden = !broadcast;
    document.getElementById("chart-latency-empty").hidden = Boolean(broadcast);
    this.latency.add(state.time, broadcast?.p50_ms ?? null, broadcast?.p99_ms ?? null);
  }
}
