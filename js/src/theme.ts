// Light or dark, as the host says; colours for what is painted rather than styled.

export interface Theme {
  /** The value of a custom property of style.css as a colour that a canvas takes. */
  colour(name: `--ltw-${string}`): string;
  close(): void;
}

/** Keep `root.dataset.theme` as the host's theme; call `changed` after every change. */
export function watchTheme(root: HTMLElement, changed: () => void): Theme {
  const probe = document.createElement("span");
  probe.hidden = true;
  // Where colours are forced, what is painted takes those that style.css names for that.
  probe.style.setProperty("forced-color-adjust", "none");
  root.append(probe);
  const media = (query: string) => (typeof matchMedia === "function" ? matchMedia(query) : null);
  const dark = media("(prefers-color-scheme: dark)");
  const others = [media("(prefers-contrast: more)"), media("(forced-colors: active)")];
  let known = new Map<string, string>();
  let settle: ReturnType<typeof setTimeout> | undefined;

  const refresh = (): void => {
    known = new Map();
    root.dataset.theme = isDark(dark?.matches ?? false) ? "dark" : "light";
    changed();
  };
  const onChange = (): void => {
    refresh();
    // A host may set its attribute before its style sheet is there.
    clearTimeout(settle);
    settle = setTimeout(refresh, 300);
  };
  const observer = new MutationObserver(onChange);
  const watched = {
    attributes: true,
    attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name", "data-theme", "data-vscode-theme-kind"],
  };
  observer.observe(document.body, watched);
  observer.observe(document.documentElement, watched);
  dark?.addEventListener("change", onChange);
  for (const one of others) one?.addEventListener("change", onChange);
  root.dataset.theme = isDark(dark?.matches ?? false) ? "dark" : "light";

  return {
    colour(name) {
      let value = known.get(name);
      if (value === undefined) {
        // A computed custom property still says light-dark(...); a computed colour does not.
        probe.style.color = `var(${name})`;
        const computed = getComputedStyle(probe);
        value = computed.color || "gray";
        // Before the view is in the page, or its style sheet is, there is no colour yet: ask again at the next painting.
        if (computed.color && computed.getPropertyValue(name)) known.set(name, value);
      }
      return value;
    },
    close() {
      clearTimeout(settle);
      observer.disconnect();
      dark?.removeEventListener("change", onChange);
      for (const one of others) one?.removeEventListener("change", onChange);
      probe.remove();
    },
  };
}

function isDark(preferred: boolean): boolean {
  const { body, documentElement: html } = document;
  const jupyter = body.dataset.jpThemeLight;
  if (jupyter !== undefined) return jupyter === "false";
  const code = body.dataset.vscodeThemeKind;
  if (code !== undefined) return code.includes("dark") || code === "vscode-high-contrast";
  for (const held of [html, body]) {
    const said = held.dataset.theme;
    if (said === "dark" || held.classList.contains("dark")) return true;
    if (said === "light" || held.classList.contains("light")) return false;
  }
  return preferred;
}
