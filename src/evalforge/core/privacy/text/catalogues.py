"""Capital letters before a number that make it an entry of a public catalogue, an amount or a measure: `CVE-2024-12345`."""

from __future__ import annotations

from evalforge.core.privacy.vocabulary import listed

CATALOGUES = listed(
    "CVE CWE ISO RFC ORA PLS TNS SQL SQLSTATE ERR ERROR HTTP HTTPS UTF SHA MD GPT PEP IEC IEEE NIST ANSI DIN "
    "ECMA TS CS TSC PLR ESLINT "
    "TICKET JIRA PROJ BUG ADR EC AWS GCP GPU CPU TPU RAM USD EUR GBP JPY CHF CNY INR AUD CAD SEK NOK DKK PLN BRL "
    "MXN ZAR KRW TPM RPM TPD "
    "RPD GMT UTC EST PST CET MHZ RPS QPS KWH SLA SLO API LLM RAG KB MB GB TB FAQ GDPR HIPAA SOC PCI VM IP OK ID COVID"
)
"""Never a licence plate, a passport or a code."""
