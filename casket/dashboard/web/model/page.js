// The singletons of the page: the source of its data, and the data.

import { CurveStore } from "casket/model/curve_store";
import { Cursor } from "casket/model/cursor";
import { Data } from "casket/model/data";
import { source as sourceOfPage } from "casket/model/source";

export const source = sourceOfPage();
export const data = new Data(source);
export const store = new CurveStore(source);
export const cursor = new Cursor();
