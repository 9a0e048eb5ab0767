// Package ticketkeys makes the keys with which gateways seal TLS session tickets, so that a session is resumed at any gateway of
// a group. They are one system record for each group, written as every change is. A key is there one period before it is used,
// is used for one period, and opens tickets for two more: gateways go by these times and not by when a record reaches them. What
// is derived from the keys, and how tickets look, gateways know alone.
package ticketkeys
