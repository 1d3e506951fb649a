// @ts-check
// The panel of services: how each is, and buttons for those that `hsi up` runs.

import { $, element } from "./page.js";

/** @typedef {import("./types").Schemas["ServiceAnswer"]} Service */
/** @typedef {import("./client.js").Client} Client */
/** @typedef {<T>(work: () => Promise<T>) => Promise<T | null>} Guarded */

const LOOKS = { healthy: "good", running: "good", off: "good", failed: "bad", unhealthy: "bad" };

/** Asks the API how the services are, and shows it while the panel is open. */
export class ServicePanel {
  /**
   * @param {Client} client
   * @param {Guarded} guarded
   */
  constructor(client, guarded) {
    this.client = client;
    this.guarded = guarded;
    $("services").addEventListener("toggle", () => this.load());
  }

  async load() {
    if (!$("services").open) return;
    // Not guarded: what went wrong with a button stays on the page, though this goes well.
    const told = await this.client.get("/api/system/services").catch(() => null);
    if (told) $("service-rows").replaceChildren(...told.services.map((service) => this.row(service)));
  }

  /** @param {Service} service */
  row(service) {
    const look = /** @type {Record<string, string>} */ (LOOKS)[service.status] ?? "warn";
    const row = element("tr", {},
      element("td", { textContent: service.display_name, title: service.name }),
      element("td", {}, element("span", { className: `dot ${look}`, textContent: service.status })),
      element("td", { className: "number", textContent: duration(service.uptime_seconds) }),
      element("td", { className: "number",
        textContent: service.process ? String(service.restart_count) : "" }),
      element("td", { className: "soft", textContent: service.message }),
      element("td", { className: "tools" }, ...this.buttons(service)));
    row.dataset.service = service.name;
    return row;
  }

  /**
   * Return the buttons that do something now.
   * @param {Service} service
   */
  buttons(service) {
    if (!service.controllable) return [];
    const paths = /** @type {const} */ ({
      restart: "/api/system/services/{name}/restart",
      start: "/api/system/services/{name}/start",
      stop: "/api/system/services/{name}/stop",
      enable: "/api/system/services/{name}/enable",
      disable: "/api/system/services/{name}/disable",
    });
    return possible(service).map((action) => {
      const button = element("button", { type: "button", textContent: action });
      button.addEventListener("click", async () => {
        button.disabled = true;
        const path = { name: service.name };
        await this.guarded(() => this.client.post(paths[action], { path }));
        await this.load();
      });
      return button;
    });
  }
}

/**
 * @param {Service} service
 * @returns {("restart" | "start" | "stop" | "enable" | "disable")[]}
 */
function possible(service) {
  if (!service.enabled || service.status === "failed") return ["enable"];
  if (service.status === "stopped") return ["start", "disable"];
  return ["restart", "stop", "disable"];
}

/** @param {number | null} [seconds] */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds >= 86_400) return `${(seconds / 86_400).toFixed(1)} d`;
  if (seconds >= 3_600) return `${(seconds / 3_600).toFixed(1)} h`;
  return seconds >= 60 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds)} s`;
}
