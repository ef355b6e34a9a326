// Package cloudformation has no code: its tests hold the templates, and the
// scripts in bootstrap/, to what they are to be.
package cloudformation
