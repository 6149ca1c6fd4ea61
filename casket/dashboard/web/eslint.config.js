// The rules of eslint for the page; formatting is not checked.

import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["vendor/", "node_modules/"] },
  js.configs.recommended,
  {
    files: ["**/*.js"],
    languageOptions: { ecmaVersion: 2024, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "consistent-return": "error",
      eqeqeq: "error",
      "no-constructor-return": "error",
      "no-duplicate-imports": "error",
      "no-else-return": "error",
      "no-implicit-coercion": ["error", { boolean: true, number: true, string: true }],
      "no-restricted-properties": ["error", { property: "innerHTML", message: "Text is text." }],
      "no-self-compare": "error",
      "no-template-curly-in-string": "error",
      "no-unused-vars": "error",
      // It does not see that `||=` and `??=` use a member.
      "no-unused-private-class-members": "off",
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
    },
  },
];
