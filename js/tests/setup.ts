// What browsers have and jsdom, or Node 20, has not. Nothing here measures or paints.

import { vi } from "vitest";

interface Resolvers {
  promise: Promise<unknown>;
  resolve: (value: unknown) => void;
  reject: (reason: unknown) => void;
}
const promises = Promise as unknown as { withResolvers?: () => Resolvers };
promises.withResolvers ??= () => {
  const made = {} as Resolvers;
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

if (typeof document !== "undefined") {
  class Nothing {
    observe(): void {}
    unobserve(): void {}
    disconnect(): void {}
  }
  class Sheet {
    cssRules: { cssText: string; style: Record<string, unknown> }[] = [];
    replaceSync(): void {}
    insertRule(text: string, index: number): number {
      this.cssRules.splice(index, 0, { cssText: text, style: { removeProperty: () => "" } });
      return index;
    }
  }
  vi.stubGlobal("ResizeObserver", Nothing);
  vi.stubGlobal("CSSStyleSheet", Sheet);
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener() {}, removeEventListener() {} }));
  Object.assign(document, { adoptedStyleSheets: [] });
  HTMLCanvasElement.prototype.getContext = () => null;
  // Room for a header and ten rows and a quarter.
  const isTable = (element: Element): boolean =>
    element.tagName === "REGULAR-TABLE" || element.classList.contains("rt-scroll-table-clip");
  const size = (pixels: number) => ({
    configurable: true,
    get(this: Element): number {
      return isTable(this) ? pixels : 0;
    },
  });
  Object.defineProperties(HTMLElement.prototype, { clientHeight: size(270), clientWidth: size(1200) });
}
