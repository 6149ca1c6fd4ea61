"""Journal and shipping, in front of every store on another machine."""
