"""What goes before every store on another machine: journal and shipping."""
