// Package demo shows, and measures, what registrard does in a lab: the story of a power cut, a phone for
// newcomers, and the times of failovers. It drives the lab as an operator would and the virtual address as
// phones would, and knows nothing of registrard but its command line and SIP.
package demo
