// The charts of ECharts that the page uses, and nothing else of it: the entry of its own build.

import { LineChart, ParallelChart, ScatterChart } from "echarts/charts";
import {
  BrushComponent, GridComponent, ParallelComponent, TooltipComponent, VisualMapComponent,
} from "echarts/components";
import { getInstanceByDom, init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

use([
  LineChart, ParallelChart, ScatterChart,
  BrushComponent, GridComponent, ParallelComponent, TooltipComponent, VisualMapComponent,
  CanvasRenderer,
]);

export { getInstanceByDom, init };
